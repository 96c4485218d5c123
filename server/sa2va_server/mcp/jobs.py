"""Run blocking work for an asynchronous server: each job in a thread, with regular reports. Equal calls share
one job, and a job is cancelled when everybody who waited for it has gone.

Knows no tools, engines or messages. Jobs do not wait for each other here: the engine decides what may run at
the same time, so that a job that needs no model is never behind one that does.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from sa2va_tools.run import Progress, Run

Result = TypeVar("Result")
Work = Callable[[Run], Result]
Report = Callable[[float, str], Awaitable[None]]
"""Takes a strictly increasing number and a line of text."""

REPORT_EVERY_S = 0.25
_MAX_THREADS = 256
"""Most of them wait for the model; only if there are more does a job wait for a thread."""
_MAX_QUOTE = 80


class JobStatus:
    """What a job is doing. The worker thread writes it, the event loop reads it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def update(self, progress: Progress) -> None:
        """Take over a report of the work."""
        self.text = _describe_stage(progress) + _quote_end(progress.text)


class _Job:
    """One piece of work and those who wait for it."""

    def __init__(self) -> None:
        self.status = JobStatus("starting")
        self.run = Run(self.status.update)
        self.outcome: Future[Any] = Future()
        self.ended = anyio.Event()
        self.waiting = 0

    def work(self, work: Work[Any]) -> None:
        """In a thread. An error is kept for those who wait."""
        try:
            self.outcome.set_result(work(self.run))
        except Exception as error:  # noqa: BLE001 - raised again, unchanged, by `outcome.result`
            self.outcome.set_exception(error)


class JobRunner:
    """Runs jobs while `serve` is entered."""

    def __init__(self, *, report_every_s: float = REPORT_EVERY_S) -> None:
        self._report_every_s = report_every_s
        self._jobs: dict[Hashable, _Job] = {}
        self._group: TaskGroup | None = None

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Accept jobs in this block. At its end, jobs that still run are cancelled and waited for."""
        async with anyio.create_task_group() as group:
            self._group = group
            self._threads = anyio.CapacityLimiter(_MAX_THREADS)
            try:
                yield
            finally:
                self._group = None
                for job in self._jobs.values():
                    job.run.cancel()

    async def run(self, key: Hashable, work: Work[Result], report: Report) -> Result:
        """Return or raise what `work` does, or what the job with an equal key does that runs already.

        If the caller's scope is cancelled, the job goes on for the others that wait for it. If there are
        none, it is cancelled, and equal calls no longer join it.
        """
        job = self._jobs.get(key)
        joined = "joined an equal call that runs already; " if job is not None else ""
        if job is None:
            job = self._start(key, work)
        job.waiting += 1
        try:
            await self._follow(job, report, joined)
        finally:
            job.waiting -= 1
            if not job.waiting and not job.ended.is_set():
                self._forget(key, job)
                job.run.cancel()
        result: Result = job.outcome.result()
        return result

    def _start(self, key: Hashable, work: Work[Result]) -> _Job:
        if self._group is None:
            raise RuntimeError("the server is not running")
        job = self._jobs[key] = _Job()
        self._group.start_soon(self._run_in_thread, key, job, work)
        return job

    async def _run_in_thread(self, key: Hashable, job: _Job, work: Work[Result]) -> None:
        await anyio.to_thread.run_sync(job.work, work, limiter=self._threads)
        self._forget(key, job)
        job.ended.set()

    def _forget(self, key: Hashable, job: _Job) -> None:
        """Let no more calls join the job."""
        if self._jobs.get(key) is job:
            del self._jobs[key]

    async def _follow(self, job: _Job, report: Report, joined: str) -> None:
        """Report even if nothing changes, because clients give up on calls that are silent for long."""
        start_s = time.monotonic()
        count = 0
        while not job.ended.is_set():
            count += 1
            await report(float(count), f"{joined}{job.status.text} ({time.monotonic() - start_s:.0f} s)")
            with anyio.move_on_after(self._report_every_s):
                await job.ended.wait()


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
