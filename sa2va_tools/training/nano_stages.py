"""The stages of the nano model wired up: modules, optimisers and what each takes over from the one before.

Every stage resumes from its own saved state in the folder of the run, so a stage that was broken off goes on
where it was, and one that is done ends at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from tokenizers import Tokenizer

from sa2va_tools.model.config import parse_config
from sa2va_tools.model.loading import save_checkpoint
from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.progress import CancelToken, ProgressCallback, ignore_progress
from sa2va_tools.training.config import NanoRecipe
from sa2va_tools.training.dense_heads import DenseHeads
from sa2va_tools.training.grounding_stage import train_grounding
from sa2va_tools.training.joint_stage import joint_optimizers, train_joint
from sa2va_tools.training.language_losses import LanguageLoss
from sa2va_tools.training.language_stage import language_modules, language_optimizers, train_language
from sa2va_tools.training.loop import StageRun, load_modules
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
    workers: Workers = ALONE
    on_progress: ProgressCallback = ignore_progress
    cancel: CancelToken | None = None

    def state(self, stage: str) -> Path:
        return self.folder / f"{stage}.state.pt"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stages train."""

    model: Sa2VA
    heads: DenseHeads
    tokenizer: Tokenizer


def build(seed: int, run: Path | None = None) -> Parts:
    """The nano model as it is before any training. The tokenizer does not depend on the seed; a folder `run`
    that has one keeps it, for its words would move if the world's wording changed."""
    torch.manual_seed(seed)
    kept = None if run is None else run / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(kept)) if kept and kept.exists() else train_tokenizer()
    if kept and not kept.exists():
        tokenizer.save(str(kept))
    model = Sa2VA(parse_config(nano_config(tokenizer.get_vocab_size())))
    start_grounding(model.grounding)
    start_language(model.mllm)
    return Parts(model, DenseHeads(VISION_WIDTH, LANGUAGE_WIDTH), tokenizer)


def run_grounding(job: Job) -> None:
    """Stage 1."""
    parts = build(job.recipe.seed, job.folder)
    grounding = parts.model.grounding
    optimizer = torch.optim.AdamW(grounding.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    run = StageRun(
        "grounding",
        job.folder,
        steps=job.recipe.grounding_steps,
        seed=job.recipe.seed,
        modules={"grounding": grounding},
        optimizers=[optimizer],
        schedule=cosine,
        on_progress=job.on_progress,
        cancel=job.cancel,
    )
    train_grounding(grounding, run)


def run_vision(job: Job) -> None:
    """Stage 2."""
    parts = build(job.recipe.seed, job.folder)
    modules = {
        "vision_model": parts.model.mllm.vision_model,
        "mlp1": parts.model.mllm.mlp1,
        "heads": parts.heads,
    }
    run = StageRun(
        "vision",
        job.folder,
        steps=job.recipe.vision_steps,
        seed=job.recipe.seed,
        modules=modules,
        optimizers=muon_and_adamw(modules, muon_rate=0.02, adamw_rate=1e-3),
        schedule=cosine,
        on_progress=job.on_progress,
        cancel=job.cancel,
    )
    train_vision(parts.model.mllm, parts.heads, run)


def run_language(job: Job) -> None:
    """Stage 3, from stage 2."""
    parts = build(job.recipe.seed, job.folder)
    modules = language_modules(parts.model, parts.heads)
    load_modules(job.state("vision"), {name: modules[name] for name in ("vision_model", "mlp1", "heads")})
    run = StageRun(
        "language",
        job.folder,
        steps=job.recipe.language_steps,
        seed=job.recipe.seed,
        modules=modules,
        optimizers=language_optimizers(modules),
        schedule=late_linear,
        on_progress=job.on_progress,
        cancel=job.cancel,
        workers=job.workers,
    )
    packer, loss_of = _language_tools(parts)
    train_language(parts.model, parts.heads, packer, loss_of, run)


def run_joint(job: Job) -> None:
    """Stage 4, from stages 1 and 3; writes the checkpoint."""
    parts = build(job.recipe.seed, job.folder)
    modules = {**language_modules(parts.model, parts.heads), "grounding": parts.model.grounding}
    load_stages(job, parts)
    run = StageRun(
        "joint",
        job.folder,
        steps=job.recipe.joint_steps,
        seed=job.recipe.seed,
        modules=modules,
        optimizers=joint_optimizers(modules, rate=0.12),
        schedule=cosine,
        on_progress=job.on_progress,
        cancel=job.cancel,
        workers=job.workers,
    )
    packer, loss_of = _language_tools(parts)
    train_joint(parts.model, packer, loss_of, run)
    if job.workers.is_first:
        export(parts, job.folder / "checkpoint")


def load_stages(job: Job, parts: Parts) -> None:
    """The weights of the furthest stages that were saved."""
    modules = language_modules(parts.model, parts.heads)
    if job.state("joint").exists():
        load_modules(job.state("joint"), {**modules, "grounding": parts.model.grounding})
        return
    load_modules(job.state("grounding"), {"grounding": parts.model.grounding})
    load_modules(job.state("language"), modules)


def export(parts: Parts, folder: Path) -> None:
    """The checkpoint in the published format, half precision, without the throw-away heads."""
    save_tokenizer(parts.tokenizer, folder)
    save_checkpoint(parts.model, nano_config(parts.tokenizer.get_vocab_size()), folder, dtype=torch.float16)


def use_one_core() -> None:
    """Each process of a run keeps to one core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _language_tools(parts: Parts) -> tuple[Packer, LanguageLoss]:
    loss_of = LanguageLoss(parts.model.mllm, parts.model.text_hidden_fcs, parts.heads, parts.tokenizer)
    return Packer(parts.tokenizer), loss_of
