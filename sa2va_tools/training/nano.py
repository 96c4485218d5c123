"""`train_nano`: the whole course of the nano model, each stage in processes of its own.

The grounding part learns in one process while vision and then language learn in another; they meet in the
joint stage. Knows the order of stages and how processes are started, watched and stopped; nothing of what
they do.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sa2va_tools.errors import RequestError, Sa2vaError
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress
from sa2va_tools.training.config import NanoRecipe
from sa2va_tools.training.nano_stages import (
    Job,
    run_grounding,
    run_joint,
    run_language,
    run_vision,
    use_one_core,
)
from sa2va_tools.training.workers import Workers

_SMOKE_MINUTES = 0.5
_POLL_S = 0.5
# glibc gives large blocks back to the system at every step, and the system clears them again: a third of the
# time of a step. Has to be in the environment before a process starts.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_NUM_THREADS": "1",
}

Stage = Callable[[Job], None]


@dataclass(frozen=True, slots=True)
class TrainedNano:
    """What a run leaves: the checkpoint's folder and the folder of logs and states."""

    checkpoint: Path
    run: Path


def train_nano(
    out_dir: Path,
    *,
    smoke: bool = False,
    minutes: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    on_progress: ProgressCallback = ignore_progress,
    cancel: CancelToken | None = None,
) -> TrainedNano:
    """Train the nano model from nothing into `out_dir/checkpoint`; called again, it goes on where it was.

    `minutes` is the time of all stages together (None: the recipe's); `smoke` runs every stage for a moment,
    to see that it works; `threads` is how many cores the joint stage may use. States and CSV logs stay in
    `out_dir/run`. Raises RequestError for a device other than the CPU or a time that is none, Sa2vaError when
    a stage fails, CancelledError when `cancel` is set.
    """
    if device not in ("auto", "cpu"):
        raise RequestError(
            f"The nano model trains on the CPU; the device {device!r} was asked for.",
            hint="Use device='cpu'.",
        )
    recipe = NanoRecipe(seed=seed, workers=threads or min(2, os.cpu_count() or 1))
    if minutes is not None and minutes <= 0:
        raise RequestError(
            f"{minutes} minutes is no time to train in.", hint="Give more than 0, or leave it out."
        )
    recipe = recipe.lasting(_SMOKE_MINUTES if smoke else minutes or recipe.wall_minutes)
    run = out_dir / "run"
    run.mkdir(parents=True, exist_ok=True)
    course = _Course(run, recipe, on_progress, cancel or CancelToken())
    course.go()
    shutil.copytree(run / "checkpoint", out_dir / "checkpoint", dirs_exist_ok=True)
    return TrainedNano(out_dir / "checkpoint", run)


class _Course:
    """Starts the stages' processes and hears them."""

    def __init__(
        self, run: Path, recipe: NanoRecipe, on_progress: ProgressCallback, cancel: CancelToken
    ) -> None:
        self._run, self._recipe = run, recipe
        self._on_progress, self._cancel = on_progress, cancel
        self._context = mp.get_context("spawn")
        self._reports: Any = self._context.Queue()

    def go(self) -> None:
        grounding = self._start([run_grounding])
        language = self._start([run_vision, run_language])
        self._wait([grounding, language])
        count = self._recipe.workers
        with tempfile.TemporaryDirectory() as folder:
            meeting = Path(folder) / "meeting"
            self._wait([self._start([run_joint], rank, count, meeting) for rank in range(count)])

    def _start(
        self, stages: list[Stage], rank: int = 0, count: int = 1, meeting: Path | None = None
    ) -> BaseProcess:
        arguments = (stages, self._run, self._recipe, rank, count, meeting, self._reports)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        before = {name: os.environ.get(name) for name in _KEEP_MEMORY}
        os.environ.update(_KEEP_MEMORY)
        try:
            process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        return process

    def _wait(self, processes: list[BaseProcess]) -> None:
        try:
            while any(process.is_alive() for process in processes):
                self._cancel.raise_if_cancelled()
                self._pass_on()
                self._check(processes)
            self._pass_on()
            self._check(processes)
        finally:
            for process in processes:
                process.terminate()
                process.join()

    def _pass_on(self) -> None:
        """Hand reports to the caller; waits a moment for the first."""
        wait_s = _POLL_S
        while True:
            try:
                self._on_progress(self._reports.get(timeout=wait_s))
            except queue.Empty:
                return
            wait_s = 0.01

    def _check(self, processes: list[BaseProcess]) -> None:
        if any(process.exitcode not in (None, 0) for process in processes):
            raise Sa2vaError(
                "A training process ended with an error; what it said stands above.",
                hint=f"Its states are in {self._run}; call again to go on from them.",
            )


def _work(
    stages: list[Stage],
    run: Path,
    recipe: NanoRecipe,
    rank: int,
    count: int,
    meeting: Path | None,
    reports: Any,
) -> None:
    """One process: its stages in order."""
    use_one_core()

    def report(progress: Progress) -> None:
        reports.put(progress)

    workers = Workers() if meeting is None else Workers.join(meeting, rank, count)
    for stage in stages:
        stage(Job(run, recipe, workers, report))
