"""One process per measurement, so that peaks of memory do not mix."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

Setting = TypeVar("Setting")
Figures = TypeVar("Figures")


def measure_apart(
    measure: Callable[[Setting], Figures], setting: Setting, environment: Mapping[str, str] | None = None
) -> Figures | None:
    """``measure(setting)`` in a fresh process; None where memory does not suffice, and a line on stderr says so.

    ``measure`` must be a function of a module; it, ``setting`` and the result travel by pickle. Its other
    exceptions are raised here. ``environment``: variables that the process has beside ours.
    """
    context = multiprocessing.get_context("spawn")
    with _environment(environment or {}), ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, setting).result()
        except BrokenProcessPool:
            # what Linux does to a process for which there is no memory left
            print(f"not measured, the process was killed: {setting}", file=sys.stderr)
        except torch.OutOfMemoryError:
            print(f"not measured, the GPU has too little memory: {setting}", file=sys.stderr)
    return None


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set ``variables`` for processes that are started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
