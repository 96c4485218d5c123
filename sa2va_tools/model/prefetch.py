"""Work ahead: an iterator run in a thread of its own, a bounded number of items in front of its reader."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from sa2va_tools.shortage import memory_is_short

Item = TypeVar("Item")
_POLL_S = 0.05
_END = object()


@contextmanager
def prefetched(source: Iterator[Item], ahead: int) -> Iterator[Iterator[Item]]:
    """The same items in the same order, up to `ahead` of them made before they are asked for. What `source`
    raises is raised to the reader, after the items before it. Leaving the block stops the thread and closes
    `source`. Where no thread is to be had, each item is made when it is asked for."""
    items: queue.Queue[object] = queue.Queue(ahead)
    stopped = threading.Event()
    failures: list[BaseException] = []

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(item):
                    break
        except BaseException as error:  # noqa: BLE001  handed to the reader, who raises it
            failures.append(error)
        finally:
            _close(source)
            put(_END)

    def read() -> Iterator[Item]:
        while True:
            item = items.get()
            if item is _END:
                if failures:
                    raise failures[0]
                return
            yield item  # type: ignore[misc]

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    works_ahead = _started(thread)
    try:
        yield read() if works_ahead else source
    finally:
        stopped.set()
        if works_ahead:
            thread.join()
        else:
            _close(source)


def _started(thread: threading.Thread) -> bool:
    """False where memory, or the number of threads, is too limited. A thread that lacks memory for its first
    steps would be waited for forever."""
    if memory_is_short():
        return False
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def _close(source: Iterator[object]) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()
