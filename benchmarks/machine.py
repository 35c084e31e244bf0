"""What a benchmark ran on, and how busy that machine was."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Machine:
    """The machine of a report."""

    processor: str
    cores: int
    memory_gigabytes: float
    device: str
    torch: str
    python: str
    date: str

    def to_markdown(self) -> str:
        line = (
            f"{self.date}: {self.processor}, {self.cores} cores, {self.memory_gigabytes:.0f} GB; "
            f"measured on {self.device}; torch {self.torch}, Python {self.python}."
        )
        if self.device == "cpu" and not torch.cuda.is_available():
            line += " No GPU was available: all figures are of the processor alone."
        return line

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def this_machine(device: torch.device) -> Machine:
    """Describe the machine that the benchmarks run on; ``device``: where the networks run."""
    return Machine(
        processor=_processor(),
        cores=available_cores(),
        memory_gigabytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        torch=torch.__version__,
        python=platform.python_version(),
        date=date.today().isoformat(),
    )


class Bystanders:
    """Watches how much of the processor other programs use, which makes all measured speeds lower."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._others_start = _seconds_of_others()

    def share(self) -> float | None:
        """Part of all cores' time since the beginning that other programs took; None where it is not known."""
        others = _seconds_of_others()
        if others is None or self._others_start is None:
            return None
        everything = (time.monotonic() - self._start) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (others - self._others_start) / everything))

    def to_markdown(self) -> str:
        share = self.share()
        if share is None:
            return "How busy the machine was with other programs is not known."
        verdict = "" if share < 0.1 else ", so the speeds are lower than those of an idle machine"
        return f"Other programs took {share:.0%} of the processor meanwhile{verdict}."


def _seconds_of_others() -> float | None:
    """Processor seconds since the system started, less those of this process and its finished children."""
    statistics = Path("/proc/stat")
    if not statistics.is_file():
        return None
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts = map(
        int, statistics.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:8]
    )
    busy = (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])


def available_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all that was asked of it, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_bytes(device: torch.device) -> int:
    """The largest memory so far: allocated by this process on a GPU, or resident in the system's memory."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_bytes()


def peak_resident_bytes() -> int:
    """The largest resident memory of this process so far, in bytes, the interpreter and its libraries included."""
    status = Path("/proc/self/status")
    if status.is_file():
        # not getrusage: on Linux its peak is inherited from the process that started this one
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
