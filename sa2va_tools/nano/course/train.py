"""`train_nano`: the whole training of the nano model, in processes that run its stages."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from sa2va_tools.atomic import write_bytes
from sa2va_tools.errors import RequestError
from sa2va_tools.nano.course import stages
from sa2va_tools.nano.course.stages import CHECKPOINT, STAGES, NanoRecipe, Stage, TrainingJob
from sa2va_tools.nano.course.tokenizer import load_or_train_tokenizer
from sa2va_tools.run import Run
from sa2va_tools.training.device import choose_training_device
from sa2va_tools.training.processes import ProcessGroup, Workers
from sa2va_tools.training.stage_log import Change, load_figure_class, plot_curves, read_loss_changes


@dataclass(frozen=True, slots=True)
class TrainedNano:
    """What a training leaves behind."""

    checkpoint: Path
    run: Path
    """The folder of logs, curves and states."""
    losses: Mapping[str, Change]
    """How each stage's loss changed."""


def train_nano(
    out_dir: Path,
    *,
    smoke: bool = False,
    share: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    run: Run | None = None,
) -> TrainedNano:
    """Train the nano model from nothing into `out_dir/checkpoint`. An interrupted training resumes when it is
    called again.

    `share` is the share of the recipe's steps to take (None: all). `smoke` instead runs a few steps of every
    stage, in this process, to check that each loss falls. `device` is auto, cpu or cuda. `workers` is the
    number of processes that share the last four stages (None: two on a CPU, whatever its cores, and one on a
    GPU).

    On a CPU the same seed, recipe and `workers` give the same weights, even after an interruption; on a GPU
    only if its kernels are deterministic. States, CSV logs and `curves.png` are in `out_dir/run`.

    Raises RequestError for arguments that are impossible or do not fit the run in `out_dir`;
    MissingExtraError without matplotlib; Sa2vaError if a stage fails; CancelledError if `run` is cancelled.
    """
    run = run or Run()
    torch_device = choose_training_device(device)
    load_figure_class()  # fail now rather than after the training
    on_gpu = torch_device.type == "cuda"
    recipe = _make_recipe(NanoRecipe(seed=seed, workers=_count_workers(workers, on_gpu=on_gpu)), smoke, share)
    folder = out_dir / "run"
    _prepare_folder(folder, recipe)
    job = TrainingJob(folder, recipe, torch_device)
    if smoke:
        stages.run_all(job, run)
    else:
        _run_in_processes(job, run)
    plot_curves(folder, STAGES, folder / "curves.png")
    shutil.copytree(folder / CHECKPOINT, out_dir / CHECKPOINT, dirs_exist_ok=True)
    return TrainedNano(out_dir / CHECKPOINT, folder, read_loss_changes(folder, STAGES))


def _count_workers(wanted: int | None, *, on_gpu: bool) -> int:
    if wanted is not None and (wanted < 1 or (on_gpu and wanted > 1)):
        raise RequestError(
            f"Training in {wanted} processes is not possible on this device.",
            hint="Leave out workers, or give a number from 1; on a GPU it can only be 1.",
        )
    return wanted or (1 if on_gpu else 2)


def _make_recipe(full: NanoRecipe, smoke: bool, share: float | None) -> NanoRecipe:
    if smoke and share is not None:
        raise RequestError(
            "A smoke run has a fixed number of steps, so `share` cannot be given.",
            hint="Give either smoke or a share, not both.",
        )
    if smoke:
        return full.as_smoke_run()
    return full if share is None else full.scale(share)


def _prepare_folder(folder: Path, recipe: NanoRecipe) -> None:
    """Store the recipe and the tokenizer of a new run; refuse to resume a run with another recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.json"
    wanted = asdict(recipe)
    if not path.exists():
        write_bytes(path, (json.dumps(wanted, indent=1) + "\n").encode())
    stored = json.loads(path.read_text(encoding="utf-8"))
    differences = [
        f"{key} {stored.get(key)}, not {value}" for key, value in wanted.items() if stored.get(key) != value
    ]
    if differences:
        raise RequestError(
            f"{folder} contains a run with another recipe: {'; '.join(differences)}.",
            hint="Use the same arguments to resume it, or another folder to start a new run.",
        )
    load_or_train_tokenizer(folder)


def _run_in_processes(job: TrainingJob, run: Run) -> None:
    processes = ProcessGroup(
        run, failure_hint=f"The states so far are in {job.folder}; call again to resume from them."
    )
    sam2 = processes.start(partial(stages.run_grounding, job))
    language = processes.start(partial(_run_vision_and_language, job))
    processes.wait([sam2, language])
    for stage in stages.SHARED_STAGES:
        with tempfile.TemporaryDirectory() as meeting_folder:
            meeting = Path(meeting_folder) / "meeting"
            works = [partial(_run_shared, stage, job, meeting, rank) for rank in range(job.recipe.workers)]
            processes.wait([processes.start(work) for work in works])


def _run_vision_and_language(job: TrainingJob, run: Run) -> None:
    stages.run_vision(job, run)
    stages.run_language(job, run)


def _run_shared(stage: Stage, job: TrainingJob, meeting: Path, rank: int, run: Run) -> None:
    """In a process: its part of a stage that several processes share."""
    with Workers.join(meeting, rank, job.recipe.workers) as workers:
        stage(replace(job, workers=workers), run)
