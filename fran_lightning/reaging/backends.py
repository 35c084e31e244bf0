"""Which program runs the generator: PyTorch, or onnxruntime with an exported file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fran_lightning.errors import UserError
from fran_lightning.networks.generator import INPUT_AGE, TARGET_AGE
from fran_lightning.networks.weights import METADATA_KEY, load_generator
from fran_lightning.reaging.network import DeltaNetwork, Precision, choose_device

#: ``auto`` is onnxruntime for an ONNX file, PyTorch for everything else
Backend = Literal["auto", "torch", "onnxruntime"]


def load_network(
    checkpoint: str | os.PathLike[str], backend: Backend, device: str, precision: Precision
) -> tuple[DeltaNetwork, dict[str, Any]]:
    """The network of a run folder, ``.safetensors`` or exported ``.onnx`` at work, and its metadata.

    A run folder with ``onnxruntime`` is exported first, which takes some seconds; nothing is kept of that file.

    Raises:
        UserError: the file, the device, or this combination of both is not to be had.
    """
    is_onnx = Path(checkpoint).suffix == ".onnx"
    if is_onnx and backend == "torch":
        raise UserError(f"PyTorch does not run {checkpoint}; leave out --backend, or give the run's .safetensors")
    if not is_onnx and backend != "onnxruntime":
        generator, metadata = load_generator(checkpoint)
        return DeltaNetwork(generator, choose_device(device), precision), metadata
    if precision == "bfloat16":
        raise UserError("onnxruntime computes in float32 here; use --precision float32, or --backend torch")
    if is_onnx:
        network = OnnxNetwork(checkpoint, device)
        return network, network.metadata
    from fran_lightning.export.onnx_files import export_onnx

    generator, metadata = load_generator(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.onnx"
        export_onnx(path, generator.float().requires_grad_(False), metadata)
        return OnnxNetwork(path, device), metadata


class OnnxNetwork(DeltaNetwork):
    """An exported network at work in onnxruntime, in float32.

    Args:
        path: what ``fran export --format onnx`` wrote.
        device: ``auto`` is CUDA where onnxruntime has it.

    Raises:
        UserError: missing or broken file, another network's file, or no such device in this onnxruntime.
    """

    def __init__(self, path: str | os.PathLike[str], device: str = "auto") -> None:
        file = Path(path)
        if not file.is_file():
            raise UserError(f"checkpoint {file} does not exist; write it by `fran export RUN --format onnx`")
        content = file.read_bytes()
        self._session = _open_session(content, file, device)
        self._digest = hashlib.sha256(content).hexdigest()
        self.metadata = _read_metadata(self._session, file)
        # tensors are handed over in the system's memory, whatever the session runs on
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self._generator = self._run_session

    def fingerprint(self) -> str:
        """A short name of the file."""
        return self._digest[:16]

    def _run_session(self, inputs: Tensor) -> Tensor:
        parts = inputs[:, :INPUT_AGE], inputs[:, INPUT_AGE:TARGET_AGE], inputs[:, TARGET_AGE:]
        names = ("image", "source_age", "target_age")
        feed = {name: part.contiguous().numpy() for name, part in zip(names, parts, strict=True)}
        return torch.from_numpy(self._session.run(["delta"], feed)[0])


def _open_session(content: bytes, file: Path, device: str) -> Any:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    has_cuda = "CUDAExecutionProvider" in available
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda"):
        raise UserError(f"onnxruntime does not run on device {device!r} here; use auto, cpu or cuda")
    if kind == "cuda" and not has_cuda:
        raise UserError("this onnxruntime has no CUDA; install onnxruntime-gpu, or use --device cpu or --backend torch")
    providers: list[Any] = ["CPUExecutionProvider"]
    if has_cuda and kind != "cpu":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    options = onnxruntime.SessionOptions()
    # as many threads as PyTorch would take, which users limit by OMP_NUM_THREADS
    options.intra_op_num_threads = torch.get_num_threads()
    # idle threads that spin would take the processor from decoding and encoding
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # errors are told by exceptions
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime's own have no base class in common
        reason = str(error).rpartition(" : ")[2]
        raise UserError(f"checkpoint {file} is broken or no ONNX network ({reason}); export it again") from error


def _read_metadata(session: Any, file: Path) -> dict[str, Any]:
    stored = session.get_modelmeta().custom_metadata_map
    metadata = json.loads(stored[METADATA_KEY]) if METADATA_KEY in stored else {}
    if metadata.get("export") != "onnx":
        what = "to FaceFusion's contract" if metadata.get("export") == "facefusion" else "of another program"
        raise UserError(f"checkpoint {file} is a network {what}; give one from `fran export RUN --format onnx`")
    return metadata
