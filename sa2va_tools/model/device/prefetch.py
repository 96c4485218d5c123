"""Work ahead: run a generator in its own thread, a bounded number of items ahead of its consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
_END = object()


@contextmanager
def prefetch(source: Generator[Item, None, None], ahead: int) -> Iterator[Iterator[Item]]:
    """The same items in the same order, up to `ahead` of them computed before they are needed.

    An exception of `source` is raised to the consumer after the items before it. Leaving the block stops the
    thread and closes `source`. If no thread can be started, each item is computed when it is needed.
    """
    executor = ThreadPoolExecutor(1, "prefetch")
    pending: deque[Future[Any]] = deque()

    def submit() -> None:
        pending.append(executor.submit(next, source, _END))

    def consume() -> Iterator[Item]:
        while (item := pending.popleft().result()) is not _END:
            submit()
            yield item

    items: Iterator[Item] = consume()
    try:
        for _ in range(ahead + 1):
            submit()
    except RuntimeError:  # the system allows no more threads
        items = source
    try:
        yield items
    finally:
        executor.shutdown(cancel_futures=True)
        source.close()
