"""`train_nano`: the whole course of the nano model, in processes that run its stages.

The grounding part learns in one process while vision and then language learn in another; they meet in the
joint stage. Knows the order of stages and how processes are started, watched and stopped; nothing of what
they do.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import queue
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sa2va_tools.atomic import write_bytes
from sa2va_tools.errors import RequestError, Sa2vaError
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress
from sa2va_tools.training.config import NanoRecipe
from sa2va_tools.training.curves import Fall, figure_class, loss_falls, plot_curves
from sa2va_tools.training.device import training_device
from sa2va_tools.training.nano_stages import (
    SHARED_STAGES,
    Job,
    one_core,
    run_all,
    run_grounding,
    run_language,
    run_vision,
    tokenizer_of,
)
from sa2va_tools.training.workers import Workers

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
    """What a run leaves: the checkpoint's folder, the folder of logs, curves and states, and how far each
    stage's loss fell."""

    checkpoint: Path
    run: Path
    losses: Mapping[str, Fall]


def train_nano(
    out_dir: Path,
    *,
    smoke: bool = False,
    share: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    on_progress: ProgressCallback = ignore_progress,
    cancel: CancelToken | None = None,
) -> TrainedNano:
    """Train the nano model from nothing into `out_dir/checkpoint`; called again, it goes on where it was.

    `share` is the part of the recipe's steps to take (None: all); `smoke` instead runs every stage for a
    moment, in this process, to see that each loss falls. `device` is auto, cpu or cuda. `workers` is how many
    processes share the last four stages (None: two on a CPU whatever its cores, one on a GPU). The same
    seed, recipe and `workers` give the same weights on a CPU, also when the run was broken off in between; on
    a GPU as far as its kernels are deterministic.
    States, CSV logs and `curves.png` stay in `out_dir/run`.

    Raises RequestError for wishes that cannot be, among them another recipe than that of the run in
    `out_dir`; MissingExtraError without matplotlib; Sa2vaError when a stage fails; CancelledError when
    `cancel` is set.
    """
    place = training_device(device)
    figure_class()  # missing, it is missed now and not after the training
    count = _workers(workers, on_gpu=place.type == "cuda")
    recipe = _recipe(NanoRecipe(seed=seed, workers=count), smoke, share)
    run = out_dir / "run"
    run.mkdir(parents=True, exist_ok=True)
    _check_recipe(run / "recipe.json", recipe)
    tokenizer_of(run)
    job = Job(run, recipe, place, on_progress=on_progress, cancel=cancel or CancelToken())
    if smoke:
        run_all(job)
    else:
        _Course(job).go()
    plot_curves(run, run / "curves.png")
    shutil.copytree(run / "checkpoint", out_dir / "checkpoint", dirs_exist_ok=True)
    return TrainedNano(out_dir / "checkpoint", run, loss_falls(run))


def _workers(wanted: int | None, *, on_gpu: bool) -> int:
    if wanted is not None and (wanted < 1 or (on_gpu and wanted > 1)):
        raise RequestError(
            f"{wanted} processes cannot train on this device.",
            hint="Leave workers out, or give 1 or more; a GPU has one.",
        )
    return wanted or (1 if on_gpu else 2)


def _recipe(whole: NanoRecipe, smoke: bool, share: float | None) -> NanoRecipe:
    if smoke and share is not None:
        raise RequestError("A smoke run has steps of its own.", hint="Give a share, or smoke, not both.")
    if smoke:
        return whole.smoke()
    if share is not None and not share > 0:
        raise RequestError(f"A share of {share} leaves no steps.", hint="Give more than 0, e.g. 0.1.")
    return whole if share is None else whole.scaled(share)


def _check_recipe(kept: Path, recipe: NanoRecipe) -> None:
    """A run goes on by the recipe that it began with."""
    wanted = asdict(recipe)
    if not kept.exists():
        write_bytes(kept, (json.dumps(wanted, indent=1) + "\n").encode())
        return
    begun = json.loads(kept.read_text(encoding="utf-8"))
    other = [
        f"{key} {begun.get(key)}, not {value}" for key, value in wanted.items() if begun.get(key) != value
    ]
    if other:
        raise RequestError(
            f"{kept.parent} holds a run of another recipe: {'; '.join(other)}.",
            hint="Ask for that one to go on with it, or give another folder to start anew.",
        )


class _Course:
    """Starts the stages' processes and hears them."""

    def __init__(self, job: Job) -> None:
        self._job, self._cancel = job, job.cancel or CancelToken()
        self._context = mp.get_context("spawn")
        self._reports: Any = self._context.Queue()

    def go(self) -> None:
        grounding = self._start([run_grounding])
        language = self._start([run_vision, run_language])
        self._wait([grounding, language])
        count = self._job.recipe.workers
        for stage in SHARED_STAGES:
            with tempfile.TemporaryDirectory() as folder:
                meeting = Path(folder) / "meeting"
                self._wait([self._start([stage], rank, count, meeting) for rank in range(count)])

    def _start(
        self, stages: list[Stage], rank: int = 0, count: int = 1, meeting: Path | None = None
    ) -> BaseProcess:
        job = replace(self._job, on_progress=ignore_progress, cancel=None)
        arguments = (stages, job, rank, count, meeting, self._reports)
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
                self._job.on_progress(self._reports.get(timeout=wait_s))
            except queue.Empty:
                return
            wait_s = 0.01

    def _check(self, processes: list[BaseProcess]) -> None:
        if any(process.exitcode not in (None, 0) for process in processes):
            raise Sa2vaError(
                "A training process ended with an error; what it said stands above.",
                hint=f"Its states are in {self._job.folder}; call again to go on from them.",
            )


def _work(stages: list[Stage], job: Job, rank: int, count: int, meeting: Path | None, reports: Any) -> None:
    """One process: its stages in order."""

    def report(progress: Progress) -> None:
        reports.put(progress)

    workers = Workers() if meeting is None else Workers.join(meeting, rank, count)
    with one_core():
        for stage in stages:
            stage(replace(job, workers=workers, on_progress=report))
