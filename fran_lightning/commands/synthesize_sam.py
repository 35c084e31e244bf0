"""Make the paper's training data: faces drawn by StyleGAN2 (or given photos), re-aged by SAM at every age.

The networks' files are not part of this program and never downloaded by it; docs/sam_data.md says where they are.
Running the same command again continues where it stopped; --shard i/n shares the work over a job array, --devices
and --num-nodes over the GPUs that Lightning finds.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from fran_lightning.ages import DEFAULT_AGES, parse_ages
from fran_lightning.data.folder import DatasetInfo
from fran_lightning.errors import UserError
from fran_lightning.synthesis.sam.gate import GateThresholds
from fran_lightning.synthesis.sam.rendering import Precision, RenderSettings
from fran_lightning.synthesis.writer import DatasetWriter, ImageFormat, parse_shard

if TYPE_CHECKING:
    from fran_lightning.synthesis.sam.faces import FaceSource, PhotoFaces
    from fran_lightning.synthesis.sam.gate import QualityGate
    from fran_lightning.synthesis.sam.model import SAM

DEFAULT_IDENTITIES = 2000


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of ``fran synthesize sam``."""
    add = parser.add_argument
    add("--sam-checkpoint", type=str, required=True, help="sam_ffhq_aging.pt")
    add("--out", type=str, required=True, help="dataset folder, made or continued")
    add("--identities", type=int | None, default=None, help=f"how many faces to draw (default {DEFAULT_IDENTITIES})")
    add("--from-photos", type=str | None, default=None, help="re-age the faces in this folder instead of drawn ones")
    add("--aligned", action="store_true", help="the photos are FFHQ-aligned squares: use them as they are")
    add("--ages", type=str, default=",".join(map(str, DEFAULT_AGES)), help="target ages in years")
    add("--seed", type=int, default=0, help="decides every face")
    add("--truncation", type=float, default=0.7, help="psi of StyleGAN2: 0 is the mean face, 1 the full variety")
    add("--image-size", type=int | None, default=None, help="side of the images (default: the network's, 1024)")
    add("--image-format", type=ImageFormat, default="png", help="png and webp are lossless, jpg has quality 95")
    add("--stylegan-checkpoint", type=str | None, default=None, help="stylegan2-ffhq-config-f.pt (default: SAM's own)")
    add("--age-checkpoint", type=str | None, default=None, help="dex_age_classifier.pth: a second age judge")
    add("--identity-checkpoint", type=str | None, default=None, help="model_ir_se50.pth: a second identity judge")
    add("--no-gate", action="store_true", help="accept every face, and measure nothing")
    parser.add_class_arguments(GateThresholds, "gate")
    add("--shard", type=str, default="0/1", help="i/n: make the identities i, i + n, i + 2n, ...")
    add("--precision", type=Precision, default="float32", help="docs/sam_data.md says what each costs and gains")
    add("--batch-size", type=int, default=0, help="ages computed at once (0: one on the CPU, all on a GPU)")
    add("--accelerator", type=Literal["auto", "cpu", "gpu"], default="auto", help="where Lightning runs the networks")
    add("--devices", type=str, default="auto", help="how many GPUs or processes on this machine")
    add("--num-nodes", type=int, default=1, help="how many machines (started by srun or torchrun)")


def run(args: Namespace) -> None:
    """Make or continue the dataset folder."""
    _check(args)
    from fran_lightning.synthesis.sam.checkpoints import load_sam
    from fran_lightning.synthesis.sam.memory import memory_errors
    from fran_lightning.synthesis.sam.predictor import IdentitySynthesis, make_trainer, run_synthesis
    from fran_lightning.synthesis.sam.report import write_report

    should_report = True
    with memory_errors():
        # everything that can be wrong comes before the folder is made
        _quiet_lightning()
        trainer = make_trainer(args.accelerator, args.devices, args.num_nodes)
        sam = load_sam(args.sam_checkpoint)
        settings = RenderSettings(
            ages=parse_ages(args.ages),
            image_size=_image_size(args.image_size, sam.output_size),
            batch_size=args.batch_size,
            precision=args.precision,
        )
        _check_memory(args, sam, settings)
        photos, passed_over = _photos(args)
        if trainer.is_global_zero:
            for line in passed_over:
                print(f"fran: passed over: {line}", file=sys.stderr)
        source = photos or _sampled_faces(args, sam, settings)
        gate = None if args.no_gate else _gate(args)
        info = _dataset_info(args, settings, photos)
        writer = DatasetWriter(args.out, info, shard=parse_shard(args.shard), image_format=args.image_format)
        if writer.missing():
            # one thread keeps up with a CPU; a GPU outruns several PNG encoders
            threads = min(8, os.cpu_count() or 1) if _on_gpu(args) else 1
            module = IdentitySynthesis(sam, source, writer, settings, gate, writer_threads=threads)
            should_report = run_synthesis(trainer, module)
    if should_report:
        summary = write_report(writer.root, passed_over)
        print(
            f"{args.out}: {summary['identities_written']} of {summary['identities_planned']} identities, "
            f"{summary['candidates_rejected']} candidates rejected"
        )


def _on_gpu(args: Namespace) -> bool:
    import torch

    return args.accelerator != "cpu" and torch.cuda.is_available()


def _check(args: Namespace) -> None:
    """Refuse what can be seen to be wrong before gigabytes are read."""
    parse_ages(args.ages)
    parse_shard(args.shard)
    if args.from_photos is None:
        if args.aligned:
            raise UserError("--aligned speaks of photos; add --from-photos DIR or leave it out")
        if args.identities is not None and args.identities < 1:
            raise UserError(f"--identities {args.identities} must be at least 1")
    elif args.identities is not None:
        raise UserError("--identities does not go with --from-photos: every photo is one identity")
    if not 0 <= args.truncation <= 2:
        raise UserError(f"--truncation {args.truncation:g} must lie between 0 and 2; 0.5 to 1 are usual")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed} must not be negative")
    if args.accelerator == "gpu" and not _on_gpu(args):
        raise UserError("--accelerator gpu: PyTorch finds no GPU here; use --accelerator cpu, or look at the driver")
    if args.precision == "float16" and not _on_gpu(args):
        raise UserError("--precision float16 needs a GPU; on a CPU use float32 or bfloat16")
    if args.batch_size < 0:
        raise UserError(f"--batch-size {args.batch_size} must be 0 (chosen for you) or more")


def _image_size(wanted: int | None, output_size: int) -> int:
    if wanted is None:
        return output_size
    if wanted < 1 or output_size % wanted:
        sizes = [str(output_size // 2**halvings) for halvings in range(4)]
        raise UserError(
            f"--image-size {wanted}: this checkpoint draws {output_size} pixels, "
            f"which can be averaged down to {', '.join(sizes)}"
        )
    return wanted


def _photos(args: Namespace) -> tuple[PhotoFaces | None, list[str]]:
    if args.from_photos is None:
        return None, []
    from fran_lightning.synthesis.sam.faces import PhotoFaces, find_photos

    photos, passed_over = find_photos(args.from_photos, args.aligned)
    return PhotoFaces(photos), passed_over


def _dataset_info(args: Namespace, settings: RenderSettings, photos: PhotoFaces | None) -> DatasetInfo:
    """``dataset.json``: everything that decides about the pixels, so that only the same run continues a folder."""
    gate = None if args.no_gate else asdict(GateThresholds(**args.gate.as_dict()))
    generator: dict[str, Any] = {
        "network": "SAM",
        "sam_checkpoint": _checksum(args.sam_checkpoint),
        "age_checkpoint": _checksum(args.age_checkpoint),
        "identity_checkpoint": _checksum(args.identity_checkpoint),
        "precision": settings.precision,
        "image_format": args.image_format,
        "gate": gate,
    }
    if photos is None:
        generator |= {
            "faces": "stylegan2",
            "stylegan_checkpoint": _checksum(args.stylegan_checkpoint),
            "truncation": args.truncation,
        }
        identities, seed = args.identities or DEFAULT_IDENTITIES, args.seed
    else:
        generator |= {"faces": "photos", "photos": photos.checksum(), "aligned": args.aligned}
        identities, seed = len(photos), None
    return DatasetInfo("sam", settings.image_size, settings.ages, identities, seed, generator)


def _checksum(path: str | None) -> str | None:
    """SHA-256 of a file."""
    if path is None:
        return None
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read ({error.strerror})") from error


def _check_memory(args: Namespace, sam: SAM, settings: RenderSettings) -> None:
    if _on_gpu(args):
        # its own allocator tells, and at once
        return
    from fran_lightning.synthesis.sam.memory import available_bytes, require_memory, synthesis_bytes

    files = (args.sam_checkpoint, args.stylegan_checkpoint, args.age_checkpoint, args.identity_checkpoint)
    weights = sum(os.path.getsize(file) for file in files if file is not None and os.path.isfile(file))
    require_memory(weights + synthesis_bytes(sam.output_size, max(1, settings.batch_size)), available_bytes())


def _sampled_faces(args: Namespace, sam: SAM, settings: RenderSettings) -> FaceSource:
    from fran_lightning.synthesis.sam.checkpoints import load_stylegan2
    from fran_lightning.synthesis.sam.faces import SampledFaces
    from fran_lightning.synthesis.sam.rendering import feature_dtype

    generator, mean_style = sam.decoder, sam.latent_avg[0]
    if args.stylegan_checkpoint is not None:
        generator, mean_style = load_stylegan2(args.stylegan_checkpoint)
    return SampledFaces(generator, mean_style, args.seed, args.truncation, feature_dtype(settings.precision))


def _gate(args: Namespace) -> QualityGate:
    from fran_lightning.synthesis.sam.checkpoints import load_dex, load_irse50
    from fran_lightning.synthesis.sam.gate import QualityGate

    return QualityGate(
        GateThresholds(**args.gate.as_dict()),
        dex=load_dex(args.age_checkpoint) if args.age_checkpoint else None,
        arcface=load_irse50(args.identity_checkpoint) if args.identity_checkpoint else None,
    )


def _quiet_lightning() -> None:
    """Leave out what Lightning says to people who write training loops."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message=message)
