# The front door. `make help` lists the targets; variables are explained in README.md.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
EXP ?= l1_lpips_adv
ARGS ?=

# --- environment ------------------------------------------------------------------------------------------------
# Unset: .venv, made here and brought up to date when setup.cfg changes.
# VENV=/path: that environment as it is. VENV= (empty): the python on the PATH as it is.
ifeq ($(origin VENV),undefined)
VENV := .venv
INSTALLED := .venv/.installed
endif
RUN := $(if $(VENV),$(VENV)/bin/python,$(PYTHON))
FRAN := $(RUN) -m fran_lightning

# --- scale, data and experiment ---------------------------------------------------------------------------------
EXPERIMENTS := $(filter-out base,$(patsubst experiments/%.yaml,%,$(wildcard experiments/*.yaml)))
SCALES := $(patsubst experiments/scale/%.yaml,%,$(wildcard experiments/scale/*.yaml))

ifneq ($(filter train ablation,$(MAKECMDGOALS)),)
ifeq ($(filter $(EXP),$(EXPERIMENTS)),)
$(error unknown EXP=$(EXP); choose one of: $(EXPERIMENTS))
endif
ifdef SCALE
ifeq ($(filter $(SCALE),$(SCALES)),)
$(error unknown SCALE=$(SCALE); choose one of: $(SCALES))
endif
endif
ifdef DATA
ifeq ($(wildcard $(DATA)/dataset.json),)
$(error DATA=$(DATA) is no dataset folder; make one with `fran import-data` or `fran synthesize`)
endif
endif
endif

# shell fragments: they need the environment, which may not exist yet when make reads this file
choose_scale = \
	if [ -n "$(SCALE)" ]; then scale=$(SCALE); echo "SCALE=$$scale, as asked"; \
	elif $(RUN) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; \
	then scale=ablation; echo "SCALE=ablation, because a CUDA device was found"; \
	else scale=laptop; echo "SCALE=laptop, because no CUDA device was found"; fi
# identities and image size of the embedded data at each scale
choose_data = \
	if [ -n "$(DATA)" ]; then data="$(DATA)"; else \
	case $$scale in laptop) set -- 60 128;; ablation) set -- 100 256;; *) set -- 2000 1024;; esac; \
	data=data/parametric-$$scale; \
	$(FRAN) synthesize parametric --out $$data --identities $$1 --image-size $$2 --seed 0 || exit; fi
configs = --config experiments/base.yaml --config experiments/scale/$$scale.yaml

# --- devices ----------------------------------------------------------------------------------------------------
DEVICES ?=
LAUNCH ?= local
NODES ?= 1
GPUS ?= 1
devices = $(if $(DEVICES),--trainer.devices $(DEVICES) $(if $(filter-out 1,$(DEVICES)),--trainer.strategy ddp_find_unused_parameters_true))
# RUN_DIR=runs/<exp>/<run id> continues a run
run_dir = $(if $(RUN_DIR),--run_dir $(RUN_DIR))

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo
	@echo "experiments (EXP=): $(EXPERIMENTS)"
	@echo "scales (SCALE=):    $(SCALES)"

.PHONY: setup
setup: $(INSTALLED) ## make .venv and install everything

.venv/.installed: setup.cfg pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

.PHONY: train
train: $(INSTALLED) ## train: EXP= SCALE= DATA= DEVICES= RUN_DIR= ARGS=, LAUNCH=slurm NODES= GPUS=
	@$(choose_scale); $(choose_data); \
	if [ "$(LAUNCH)" = slurm ]; then \
	FRAN_COMMAND="$(FRAN) fit $(configs) --config experiments/$(EXP).yaml --data.root $$data $(run_dir) $(ARGS)" \
	sbatch --nodes=$(NODES) --ntasks-per-node=$(GPUS) --gpus-per-node=$(GPUS) --job-name=fran-$(EXP) \
	--export=ALL experiments/slurm/train.sbatch; \
	else $(FRAN) fit $(configs) --config experiments/$(EXP).yaml --data.root $$data $(devices) $(run_dir) $(ARGS); fi

# one name for the five runs; an unfinished ablation of that name is continued, a finished one is left as it is
ABLATION ?= ablation
ABLATION_EXPERIMENTS := l1 adv lpips l1_lpips l1_lpips_adv

.PHONY: ablation
ablation: $(INSTALLED) ## the five loss settings of the paper's section 4.8 in order, then their grid: SCALE= DATA= ABLATION=
	@$(choose_scale); $(choose_data); \
	for exp in $(ABLATION_EXPERIMENTS); do \
	$(FRAN) fit $(configs) --config experiments/$$exp.yaml --data.root $$data --wandb_group $(ABLATION)-$$scale \
	--run_dir runs/$$exp/$(ABLATION)-$$scale $(devices) $(ARGS) || exit; done; \
	$(FRAN) ablation runs/l1_lpips_adv/$(ABLATION)-$$scale --data $$data -o runs/$(ABLATION)-$$scale.png

# the faces that the bundled parser was trained on
PARSER_DATA ?= data/parametric-parser

.PHONY: parser
parser: $(INSTALLED) ## train the face parser on parametric faces: PARSER_DATA= RUN_DIR= ARGS=
	@test -n "$(filter-out file,$(origin PARSER_DATA))" || $(FRAN) synthesize parametric --out $(PARSER_DATA) \
	--identities 480 --ages 20,48,76 --image-size 256 --max-yaw 45 --seed 7001
	$(FRAN) fit-parser $(PARSER_DATA) $(run_dir) $(ARGS)

.PHONY: test
test: $(INSTALLED) ## the tests that take less than 15 minutes on two cores
	$(RUN) -m pytest

.PHONY: test-all
test-all: $(INSTALLED) ## all tests, the long ones too
	$(RUN) -m pytest -m ''

.PHONY: test-slow
test-slow: $(INSTALLED) ## the long tests alone; ARGS= names some of them
	$(RUN) -m pytest -m slow $(ARGS)

.PHONY: lint
lint: $(INSTALLED) ## ruff: errors and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

.PHONY: bench
bench: $(INSTALLED) ## measure speed and memory: ARGS=--quick for a look
	$(RUN) -m benchmarks $(ARGS)

.PHONY: sync
sync: $(INSTALLED) ## upload offline W&B runs
	@for run in runs/*/*/wandb/offline-run-*; do \
	if [ -d "$$run" ]; then $(if $(VENV),$(VENV)/bin/)wandb sync "$$run" || exit; fi; done

.PHONY: clean
clean: ## remove caches and build files; data and runs stay
	rm -rf build dist .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
