"""The recipe of a training run, and its stages: their modules, their optimizers, and what each continues.

Every stage resumes from its own state in the run's folder; a finished stage ends at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from sa2va_tools.errors import RequestError
from sa2va_tools.nano.course import mllm_stages
from sa2va_tools.nano.course.grounding_stage import train_grounding
from sa2va_tools.nano.course.mllm_stages import Lesson, language_modules, language_optimizers
from sa2va_tools.nano.course.nano_model import NanoModel, build_nano, save_nano
from sa2va_tools.run import Run
from sa2va_tools.training.device import CPU, single_thread
from sa2va_tools.training.loop import StageLoop, StagePlan, load_modules
from sa2va_tools.training.optimizers import Schedule, cosine_decay, delayed_linear_decay, muon_and_adamw
from sa2va_tools.training.processes import SINGLE_WORKER, Workers

StageName = Literal["grounding", "vision", "language", "practice", "review", "drill", "joint"]
STAGES: tuple[StageName, ...] = get_args(StageName)
"""In order."""
CHECKPOINT = "checkpoint"
"""The folder that the joint stage writes, inside the run's folder."""
_SMOKE_STEPS = 18
_SMOKE_BATCHES = 6  # three rounds; the joint stage has six kinds of steps
_VISION_MODULES = ("vision_model", "mlp1", "heads")


@dataclass(frozen=True, slots=True)
class NanoRecipe:
    """Steps per stage. The grounding stage runs in parallel with vision and language; practice, review, drill
    and joint follow."""

    grounding_steps: int = 2600
    vision_steps: int = 1100
    language_steps: int = 3300
    practice_steps: int = 2800
    review_steps: int = 2400
    drill_steps: int = 3000
    joint_steps: int = 500
    batch_share: float = 1.0
    """Scales the number of clips in every batch."""
    repeats_after: int | None = None
    """After this many batches, a stage draws the same ones again; None: always new ones."""
    seed: int = 0
    workers: int = 2
    """Processes of the last four stages, each with a whole batch in every step. They belong to the recipe,
    because another number of them gives other weights for the same seed."""

    def steps_for(self, stage: StageName) -> int:
        return int(getattr(self, f"{stage}_steps"))

    def scale(self, share: float) -> NanoRecipe:
        """The same recipe with `share` of the steps, at least two a stage. RequestError unless positive."""
        if not share > 0:
            raise RequestError(f"A share of {share} leaves no steps.", hint="Give more than 0, e.g. 0.1.")
        steps = {f"{stage}_steps": max(2, round(self.steps_for(stage) * share)) for stage in STAGES}
        return NanoRecipe(**{**asdict(self), **steps})

    def as_smoke_run(self) -> NanoRecipe:
        """A few steps of every stage in one process, on repeated small batches: every loss must fall."""
        short = {f"{stage}_steps": _SMOKE_STEPS for stage in STAGES}
        fixed = {"batch_share": 1 / 8, "repeats_after": _SMOKE_BATCHES, "workers": 1}
        return NanoRecipe(**{**asdict(self), **short, **fixed})


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A run's folder and recipe, and what this process uses: its device and its place among the workers."""

    folder: Path
    recipe: NanoRecipe
    device: torch.device = CPU
    workers: Workers = SINGLE_WORKER

    def state_path(self, stage: StageName) -> Path:
        return self.folder / f"{stage}.state.pt"

    def build(self) -> NanoModel:
        """The model before any training."""
        return build_nano(self.recipe.seed, self.folder, self.device)

    def open_loop(
        self,
        stage: StageName,
        modules: Mapping[str, nn.Module],
        optimizers: list[Optimizer],
        schedule: Schedule,
        run: Run | None,
    ) -> StageLoop:
        """The stage's loop, resumed from its saved state if there is one."""
        plan = StagePlan(
            name=stage,
            steps=self.recipe.steps_for(stage),
            seed=self.recipe.seed,
            batch_share=self.recipe.batch_share,
            repeats_after=self.recipe.repeats_after,
        )
        return StageLoop(
            plan, self.folder, modules, optimizers, schedule, self.device, self.workers, run or Run()
        )


Stage = Callable[[TrainingJob, Run | None], None]


def run_grounding(job: TrainingJob, run: Run | None = None) -> None:
    """Stage 1: SAM-2."""
    sam2 = job.build().model.sam2
    optimizer = AdamW(sam2.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    train_grounding(sam2, job.open_loop("grounding", {"grounding": sam2}, [optimizer], cosine_decay, run))


def run_vision(job: TrainingJob, run: Run | None = None) -> None:
    """Stage 2: the vision encoder."""
    nano = job.build()
    modules = {name: language_modules(nano)[name] for name in _VISION_MODULES}
    optimizers = muon_and_adamw(modules, muon_rate=0.03, adamw_rate=2e-3)
    mllm_stages.train_vision(nano, job.open_loop("vision", modules, optimizers, cosine_decay, run))


def _run_language(
    stage: StageName, lesson: Lesson, rate: float, job: TrainingJob, run: Run | None = None
) -> None:
    """Stages 3 to 6: language tasks, each from the weights of the stage before."""
    nano = job.build()
    modules = language_modules(nano)
    previous = STAGES[STAGES.index(stage) - 1]
    inherited = _VISION_MODULES if previous == "vision" else modules
    load_modules(job.state_path(previous), {name: modules[name] for name in inherited})
    optimizers = language_optimizers(modules, rate=rate)
    mllm_stages.train_language(
        nano, job.open_loop(stage, modules, optimizers, delayed_linear_decay, run), lesson
    )


run_language: Stage = partial(_run_language, "language", mllm_stages.LANGUAGE, 1.0)


def run_joint(job: TrainingJob, run: Run | None = None) -> None:
    """Stage 7, continues stages 1 and 6; writes the checkpoint."""
    nano = job.build()
    sam2 = nano.model.sam2
    language = language_modules(nano)
    if not job.state_path("joint").exists():
        load_modules(job.state_path("grounding"), {"grounding": sam2})
        load_modules(job.state_path("drill"), language)
    optimizers = [
        *language_optimizers(language, rate=0.3),
        AdamW(sam2.parameters(), lr=4e-4, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    mllm_stages.train_joint(
        nano, job.open_loop("joint", {**language, "grounding": sam2}, optimizers, cosine_decay, run)
    )
    if job.workers.is_first:
        save_nano(nano, job.folder / CHECKPOINT)


SHARED_STAGES: tuple[Stage, ...] = (
    partial(_run_language, "practice", mllm_stages.PRACTICE, 0.7),
    partial(_run_language, "review", mllm_stages.REVIEW, 0.6),
    partial(_run_language, "drill", mllm_stages.DRILL, 0.6),
    run_joint,
)
"""Those that several processes may share, in order."""


def run_all(job: TrainingJob, run: Run | None = None) -> None:
    """All stages, one after the other, in this process."""
    with single_thread():
        for stage in (run_grounding, run_vision, run_language, *SHARED_STAGES):
            stage(job, run)
