"""Stages that run side by side: decoding and cutting out, the network, pasting and encoding.

Threads suffice: the libraries that do the work (libav, OpenCV, torch) let go of the interpreter meanwhile.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
_END = object()
#: OpenMP's threads (PyTorch's) sleep where they wait for the next operator. Spinning, they take the processor from the
#: other stages.
SLEEPING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}


def let_waiting_threads_sleep() -> None:
    """Set :data:`SLEEPING_THREADS`, where the user has set nothing else; of use only before torch is loaded."""
    for name, value in SLEEPING_THREADS.items():
        os.environ.setdefault(name, value)


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """The items of ``items``, made in a thread that is up to ``depth`` items ahead.

    An exception of the thread is raised here. When the iterator is closed early the thread ends after the item that
    it is making.
    """
    line: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(value: Any) -> bool:
        while not stop.is_set():
            try:
                line.put(value, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        source = iter(items)
        try:
            for item in source:
                if not put(item):
                    break
            else:
                put(_END)
        except BaseException as error:
            put(_Failure(error))
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := line.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        thread.join()


class Behind(Generic[Item]):
    """Hands items to ``work`` in a thread, in order, at most ``depth`` waiting.

    Use as a context manager; it waits for all items at the end, and raises what ``work`` raised. When the block ends
    by an exception the items that wait are dropped.
    """

    def __init__(self, work: Callable[[Item], None], depth: int) -> None:
        self._work = work
        self._line: queue.Queue[Any] = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None
        self._drop = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def put(self, item: Item) -> None:
        """Hand over an item; waits while the line is full."""
        self._raise()
        self._line.put(item)

    def _run(self) -> None:
        while (item := self._line.get()) is not _END:
            # after an error the line is emptied, so that put() does not wait for ever
            if self._error is None and not self._drop:
                try:
                    self._work(item)
                except BaseException as error:
                    self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Behind[Item]:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._drop = kind is not None
        self._line.put(_END)
        self._thread.join()
        if kind is None:
            self._raise()
