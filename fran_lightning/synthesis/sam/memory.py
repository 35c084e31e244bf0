"""Turns "out of memory" into a line that says what to do, if possible before hours of work are lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fran_lightning.errors import UserError

_GIGABYTE = 1e9
_HINT = "lower --batch-size, close other programs, or use a machine with more memory"


def synthesis_bytes(output_size: int, batch_size: int) -> int:
    """Working memory of SAM beside its weights, measured on the CPU and rounded up.

    The last layers of the generator dominate: a handful of 32-channel float32 maps per image. The encoders and
    PyTorch's own code take the constant part.
    """
    per_image = 5 * 32 * 4 * output_size**2
    return int(_GIGABYTE) + batch_size * (per_image + 100_000_000)


def available_bytes() -> int | None:
    """Main memory that this process may still take: the machine's, or its control group's if that is less.

    None where the system does not tell.
    """
    limits = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        # batch systems limit a job through its control group
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            limits.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return min(limits, default=None)


def require_memory(needed: int, available: int | None) -> None:
    """Raise a UserError if ``needed`` bytes are more than ``available`` ones (None: unknown, always enough)."""
    if available is not None and needed > available:
        raise UserError(
            f"SAM needs about {needed / _GIGABYTE:.1f} GB of memory, but {available / _GIGABYTE:.1f} GB are free; "
            f"{_HINT}"
        )


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a failed allocation, on the CPU or a GPU, into a UserError."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError(f"out of memory; {_HINT}") from error
    except RuntimeError as error:
        # the CPU allocator has no exception class of its own
        if "DefaultCPUAllocator" in str(error) or "not enough memory" in str(error):
            raise UserError(f"out of memory; {_HINT}") from error
        raise
