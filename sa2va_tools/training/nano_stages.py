"""The stages of the nano model wired up: modules, optimisers and what each takes over from the one before.

Every stage resumes from its own saved state in the folder of the run, so a stage that was broken off goes on
where it was, and one that is done ends at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.optim import Optimizer

from sa2va_tools.atomic import write_bytes
from sa2va_tools.model.config import parse_config
from sa2va_tools.model.loading import save_checkpoint
from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.progress import CancelToken, ProgressCallback, ignore_progress
from sa2va_tools.training.config import NanoRecipe, StageName
from sa2va_tools.training.dense_heads import DenseHeads
from sa2va_tools.training.device import CPU
from sa2va_tools.training.grounding_stage import train_grounding
from sa2va_tools.training.joint_stage import joint_optimizers, train_joint
from sa2va_tools.training.language_losses import LanguageLoss
from sa2va_tools.training.language_stage import (
    DRILL,
    PRACTICE,
    REVIEW,
    Lesson,
    language_modules,
    language_optimizers,
    train_language,
)
from sa2va_tools.training.loop import Schedule, StageRun, load_modules
from sa2va_tools.training.nano_config import (
    LANGUAGE_WIDTH,
    VISION_WIDTH,
    nano_config,
    start_grounding,
    start_language,
)
from sa2va_tools.training.optimizers import muon_and_adamw
from sa2va_tools.training.packing import Packer
from sa2va_tools.training.schedules import cosine, late_linear
from sa2va_tools.training.tokenizer import save_tokenizer, train_tokenizer
from sa2va_tools.training.vision_stage import train_vision
from sa2va_tools.training.workers import ALONE, Workers


@dataclass(frozen=True, slots=True)
class Job:
    """One process of a training run: where it works, on what recipe, and how it reports."""

    folder: Path
    recipe: NanoRecipe
    device: torch.device = CPU
    workers: Workers = ALONE
    on_progress: ProgressCallback = ignore_progress
    cancel: CancelToken | None = None

    def state(self, stage: StageName) -> Path:
        return self.folder / f"{stage}.state.pt"

    def stage(
        self,
        name: StageName,
        modules: Mapping[str, nn.Module],
        optimizers: list[Optimizer],
        schedule: Schedule,
    ) -> StageRun:
        """The loop of that stage, from where it was left."""
        return StageRun(
            name,
            self.folder,
            steps=self.recipe.steps_of(name),
            seed=self.recipe.seed,
            modules=modules,
            optimizers=optimizers,
            schedule=schedule,
            batch_share=self.recipe.batch_share,
            repeats_after=self.recipe.repeats_after,
            device=self.device,
            on_progress=self.on_progress,
            cancel=self.cancel,
            workers=self.workers,
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stages train."""

    model: Sa2VA
    heads: DenseHeads
    tokenizer: Tokenizer


def build(seed: int, run: Path | None = None, device: torch.device = CPU) -> Parts:
    """The nano model as it is before any training, made on the CPU and then moved to `device`. `run` is the
    folder whose tokenizer it takes, see `tokenizer_of`."""
    tokenizer = train_tokenizer() if run is None else tokenizer_of(run)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Sa2VA(parse_config(nano_config(tokenizer.get_vocab_size())))
        start_grounding(model.grounding)
        start_language(model.mllm)
        heads = DenseHeads(VISION_WIDTH, LANGUAGE_WIDTH)
    return Parts(model.to(device), heads.to(device), tokenizer)


def tokenizer_of(run: Path) -> Tokenizer:
    """The tokenizer that the folder of a run keeps, for its words would move if the world's wording changed.
    It does not depend on the seed."""
    kept = run / "tokenizer.json"
    if kept.exists():
        return Tokenizer.from_file(str(kept))
    tokenizer = train_tokenizer()
    run.mkdir(parents=True, exist_ok=True)
    write_bytes(kept, tokenizer.to_str(pretty=True).encode())
    return tokenizer


def run_grounding(job: Job) -> None:
    """Stage 1."""
    parts = build(job.recipe.seed, job.folder, job.device)
    grounding = parts.model.grounding
    optimizer = torch.optim.AdamW(grounding.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    run = job.stage("grounding", {"grounding": grounding}, [optimizer], cosine)
    train_grounding(grounding, run)


def run_vision(job: Job) -> None:
    """Stage 2."""
    parts = build(job.recipe.seed, job.folder, job.device)
    modules = {
        "vision_model": parts.model.mllm.vision_model,
        "mlp1": parts.model.mllm.mlp1,
        "heads": parts.heads,
    }
    run = job.stage("vision", modules, muon_and_adamw(modules, muon_rate=0.03, adamw_rate=2e-3), cosine)
    train_vision(parts.model.mllm, parts.heads, run)


def run_language(job: Job) -> None:
    """Stage 3, from stage 2."""
    parts = build(job.recipe.seed, job.folder, job.device)
    modules = language_modules(parts.model, parts.heads)
    load_modules(job.state("vision"), {name: modules[name] for name in ("vision_model", "mlp1", "heads")})
    run = job.stage("language", modules, language_optimizers(modules), late_linear)
    packer, loss_of = _language_tools(parts)
    train_language(parts.model, parts.heads, packer, loss_of, run)


def run_practice(job: Job) -> None:
    """Stage 4, from stage 3."""
    _language_again(job, "practice", "language", PRACTICE, rate=0.7)


def run_review(job: Job) -> None:
    """Stage 5, from stage 4."""
    _language_again(job, "review", "practice", REVIEW, rate=0.6)


def run_drill(job: Job) -> None:
    """Stage 6, from stage 5."""
    _language_again(job, "drill", "review", DRILL, rate=0.6)


def run_joint(job: Job) -> None:
    """Stage 7, from stages 1 and 6; writes the checkpoint."""
    parts = build(job.recipe.seed, job.folder, job.device)
    modules = {**language_modules(parts.model, parts.heads), "grounding": parts.model.grounding}
    load_stages(job, parts)
    run = job.stage("joint", modules, joint_optimizers(modules, rate=0.3), cosine)
    packer, loss_of = _language_tools(parts)
    train_joint(parts.model, packer, loss_of, run)
    if job.workers.is_first:
        export(parts, job.folder / "checkpoint")


SHARED_STAGES: tuple[Callable[[Job], None], ...] = (run_practice, run_review, run_drill, run_joint)
"""Those that several processes may share, in order."""


def run_all(job: Job) -> None:
    """All stages, one after the other, in this process."""
    with one_core():
        for stage in (run_grounding, run_vision, run_language, *SHARED_STAGES):
            stage(job)


def load_stages(job: Job, parts: Parts) -> None:
    """The weights of the furthest stages that were saved."""
    modules = language_modules(parts.model, parts.heads)
    if job.state("joint").exists():
        load_modules(job.state("joint"), {**modules, "grounding": parts.model.grounding})
        return
    load_modules(job.state("grounding"), {"grounding": parts.model.grounding})
    done: tuple[StageName, ...] = ("drill", "review", "practice", "language")
    load_modules(job.state(next((stage for stage in done if job.state(stage).exists()), "language")), modules)


def export(parts: Parts, folder: Path) -> None:
    """The checkpoint in the published format, half precision, without the throw-away heads."""
    save_tokenizer(parts.tokenizer, folder)
    save_checkpoint(parts.model, nano_config(parts.tokenizer.get_vocab_size()), folder, dtype=torch.float16)


def use_one_core() -> None:
    """Each process of a run keeps to one core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@contextmanager
def one_core() -> Iterator[None]:
    """`use_one_core` in this block; the process's own numbers come back after it."""
    torch_threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    use_one_core()
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)


def _language_again(job: Job, name: StageName, before: StageName, lesson: Lesson, *, rate: float) -> None:
    """Another course over the language tasks, from the weights of the stage `before`."""
    parts = build(job.recipe.seed, job.folder, job.device)
    modules = language_modules(parts.model, parts.heads)
    load_modules(job.state(before), modules)
    run = job.stage(name, modules, language_optimizers(modules, rate=rate), late_linear)
    packer, loss_of = _language_tools(parts)
    train_language(parts.model, parts.heads, packer, loss_of, run, lesson)


def _language_tools(parts: Parts) -> tuple[Packer, LanguageLoss]:
    loss_of = LanguageLoss(parts.model.mllm, parts.model.text_hidden_fcs, parts.heads, parts.tokenizer)
    return Packer(parts.tokenizer), loss_of
