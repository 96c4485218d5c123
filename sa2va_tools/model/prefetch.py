"""Work ahead: an iterator run in a thread of its own, a bounded number of items in front of its reader."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
_POLL_S = 0.05
_END = object()


@contextmanager
def prefetched(source: Iterator[Item], ahead: int) -> Iterator[Iterator[Item]]:
    """The same items in the same order, up to `ahead` of them made before they are asked for. What `source`
    raises is raised to the reader, after the items before it. Leaving the block stops the thread and closes
    `source`."""
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
            close = getattr(source, "close", None)
            if close is not None:
                close()
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
    thread.start()
    try:
        yield read()
    finally:
        stopped.set()
        thread.join()
