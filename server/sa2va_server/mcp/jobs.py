"""Run blocking work for an asynchronous server: one job at a time, with regular reports, and with
cancellation that stops the work and waits for it. Knows no tools, engines or messages."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from sa2va_tools.run import Progress, Run

Result = TypeVar("Result")
Work = Callable[[Run], Result]
Report = Callable[[float, str], Awaitable[None]]
"""Takes a strictly increasing number and a line of text."""

REPORT_EVERY_S = 0.25
_MAX_QUOTE = 80


class JobStatus:
    """What a job is doing. The worker thread writes it, the event loop reads it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def update(self, progress: Progress) -> None:
        """Take over a report of the work."""
        self.text = _describe_stage(progress) + _quote_end(progress.text)


class JobRunner:
    """Runs jobs one after the other, in the order in which they came."""

    def __init__(self, *, report_every_s: float = REPORT_EVERY_S) -> None:
        self._turn = anyio.Lock()
        self._report_every_s = report_every_s

    async def run(self, work: Work[Result], report: Report) -> Result:
        """Return or raise what `work` does. If the caller's scope is cancelled, so is the run, and the next
        job starts only after the work has stopped."""
        status = JobStatus("waiting for an earlier call" if self._turn.locked() else "starting")
        run = Run(status.update)
        async with anyio.create_task_group() as group:
            group.start_soon(self._keep_reporting, status, report)
            group.start_soon(_cancel_on_exit, run)
            async with self._turn:
                status.text = "starting"
                finish = await anyio.to_thread.run_sync(_run_to_end, work, run)
            group.cancel_scope.cancel()
        # The thread was awaited behind a shield: without this line, a cancelled call would look completed.
        await anyio.lowlevel.checkpoint_if_cancelled()
        return finish()

    async def _keep_reporting(self, status: JobStatus, report: Report) -> None:
        """Report even if nothing changes, because clients give up on calls that are silent for long."""
        start_s = time.monotonic()
        count = 0
        while True:
            count += 1
            await report(float(count), f"{status.text} ({time.monotonic() - start_s:.0f} s)")
            await anyio.sleep(self._report_every_s)


async def _cancel_on_exit(run: Run) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        run.cancel()


def _run_to_end(work: Work[Result], run: Run) -> Callable[[], Result]:
    """A function that returns or raises what the work did. An error that passed through the task group would
    be wrapped in an exception group."""
    future: Future[Result] = Future()
    try:
        future.set_result(work(run))
    except Exception as error:  # noqa: BLE001 - raised again, unchanged, by the returned function
        future.set_exception(error)
    return future.result


def _describe_stage(progress: Progress) -> str:
    if progress.message:
        return f"{progress.stage}: {progress.message}"
    if progress.total is not None:
        return f"{progress.stage} {progress.done}/{progress.total}"
    return f"{progress.stage} {progress.done}" if progress.done else progress.stage


def _quote_end(text: str | None) -> str:
    """The end of an answer that is being written, in quotation marks because it is the model's text."""
    if not text:
        return ""
    end = "".join(letter if letter.isprintable() else " " for letter in text[-_MAX_QUOTE:])
    return f' "{"…" if len(text) > _MAX_QUOTE else ""}{end}"'
