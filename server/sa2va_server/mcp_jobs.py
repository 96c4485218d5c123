"""Runs blocking work for an asynchronous server: one job at a time, with a heartbeat, and a cancel
that reaches the work and waits for it to stop. Knows nothing of tools, engines and wire messages."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from sa2va_tools.progress import CancelToken, Progress, ProgressCallback

Result = TypeVar("Result")
Work = Callable[[ProgressCallback, CancelToken], Result]
Report = Callable[[float, str], Awaitable[None]]
"""Takes a strictly increasing value and a line for people."""

REPORT_EVERY_S = 0.25
_TAIL = 80


class Status:
    """What a job is doing now. Written by the worker thread, read by the event loop."""

    def __init__(self, text: str) -> None:
        self.text = text

    def update(self, progress: Progress) -> None:
        self.text = _words(progress)


class JobRunner:
    """The line in front of the engine: calls take turns, in the order in which they came."""

    def __init__(self, *, report_every_s: float = REPORT_EVERY_S) -> None:
        self._turn = anyio.Lock()
        self._report_every_s = report_every_s

    async def run(self, work: Work[Result], report: Report) -> Result:
        """What `work` returns or raises. When the caller's scope is cancelled, the work's token is
        set, and the next job starts only after the work has stopped."""
        status = Status("waiting for the call before this one" if self._turn.locked() else "starting")
        cancel = CancelToken()
        async with anyio.create_task_group() as group:
            group.start_soon(self._keep_reporting, status, report)
            group.start_soon(_cancel_when_left, cancel)
            async with self._turn:
                status.text = "starting"
                outcome = await anyio.to_thread.run_sync(_outcome, work, status.update, cancel)
            group.cancel_scope.cancel()
        # The thread is waited for behind a shield: without this, a cancelled call would look completed.
        await anyio.lowlevel.checkpoint_if_cancelled()
        return outcome()

    async def _keep_reporting(self, status: Status, report: Report) -> None:
        """Also while nothing changes: clients drop calls that they have not heard of for a while."""
        began_s = time.monotonic()
        count = 0
        while True:
            count += 1
            await report(float(count), f"{status.text} ({time.monotonic() - began_s:.0f} s)")
            await anyio.sleep(self._report_every_s)


async def _cancel_when_left(cancel: CancelToken) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        cancel.cancel()


def _outcome(work: Work[Result], on_progress: ProgressCallback, cancel: CancelToken) -> Callable[[], Result]:
    """The work's result or error as a function: an error that passed the task group on its way would
    come out wrapped in a group."""
    try:
        result = work(on_progress, cancel)
    except Exception as error:  # noqa: BLE001 - raised again, unchanged, by the function that it becomes
        failure = error

        def fail() -> Result:
            raise failure

        return fail
    return lambda: result


def _words(progress: Progress) -> str:
    return f"{_stage(progress)}{_tail(progress.text)}"


def _tail(text: str | None) -> str:
    """The end of an answer that is being written, in quotes: a model's words are no words of ours."""
    if not text:
        return ""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[-_TAIL:])
    return f' "{"…" if len(text) > _TAIL else ""}{shown}"'


def _stage(progress: Progress) -> str:
    if progress.message:
        return f"{progress.stage}: {progress.message}"
    if progress.total is not None:
        return f"{progress.stage} {progress.done}/{progress.total}"
    return f"{progress.stage} {progress.done}" if progress.done else progress.stage
