"""Calls in threads for asyncio: cancelling the task that waits for a call cancels its work."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sa2va_tools.engine.lane import CALLER
from sa2va_tools.run import Run

T = TypeVar("T")
_MAX_THREADS = 256
"""Most of them wait for the model."""


class CallThreads:
    """Threads besides asyncio's few, in which calls that wait for the model would keep out all others."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_MAX_THREADS, "sa2va")

    async def call(self, work: Callable[[], T], run: Run, caller: Run | None = None) -> T:
        """What `work` returns or raises. If the task is cancelled, so is the run, and the cancellation is
        raised only after the work has stopped, so that the model is free again. `caller` is the run that
        makes the call, if that is another one."""
        future = self.start(work, caller or run)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            run.cancel()
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # retrieved, so that asyncio does not report it as lost
            raise

    def start(self, work: Callable[[], T], caller: Run | None = None) -> asyncio.Future[T]:
        """Start the work in a thread, with the context variables of the caller."""
        context = contextvars.copy_context()
        if caller is not None:
            context.run(CALLER.set, caller)
        return asyncio.get_running_loop().run_in_executor(self._pool, context.run, work)
