"""The language stage's course: what is trained when, on which mixture of tasks, and a quick probe of it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.training.dense_heads import DenseHeads
from sa2va_tools.training.language_losses import Batch, LanguageLoss, LanguageOutput, language_batch, read
from sa2va_tools.training.loop import StageRun
from sa2va_tools.training.optimizers import muon_and_adamw
from sa2va_tools.training.packing import IGNORED, Packer
from sa2va_tools.training.tasks import IMAGE_TASKS, VIDEO_TASKS
from sa2va_tools.training.teacher import PLACE_DIMS, place_code
from sa2va_tools.training.vision_stage import vision_step
from sa2va_tools.training.world import SceneRecipe

IMAGE_CLIPS, VIDEO_CLIPS, TURNS = 12, 5, 8
VISION_RESTS_UNTIL = 0.25
EASY_UNTIL = 0.2
_EASY_IMAGE_TASKS = (
    *("refer",) * 6,
    *("attribute",) * 3,
    *("region",) * 3,
    "where",
    "refuse",
    "exists",
    "ground",
)
_EASY_VIDEO_TASKS = (*("refer",) * 6, *("motion",) * 4, "attribute", "refuse", "ground")


@dataclass(frozen=True, slots=True)
class Lesson:
    """How a course over the language tasks goes.

    Turns are of `image_tasks` and `video_tasks`, each as often as it is named there. Every `vision_every`-th
    step is the vision encoder's own, once it learns. `eases_in`: easy tasks first, vision resting. A scene
    has as many objects as drawn from `object_counts`.
    """

    image_tasks: tuple[str, ...] = IMAGE_TASKS
    video_tasks: tuple[str, ...] = VIDEO_TASKS
    vision_every: int = 12
    eases_in: bool = False
    object_counts: tuple[int, ...] = SceneRecipe().object_counts


FIRST_LESSON = Lesson(vision_every=6, eases_in=True)
PRACTICE = Lesson()
_HARD_TASKS = (*("ground",) * 2, *("describe",) * 2, *("count",) * 2, "several", "refuse")
REVIEW = Lesson(image_tasks=(*IMAGE_TASKS, *_HARD_TASKS), video_tasks=(*VIDEO_TASKS, *_HARD_TASKS))
"""More of what is learnt last: lists of objects, counting, and telling that something is not there."""
_LISTS = (*("ground",) * 6, *("describe",) * 3, *("count",) * 2, *("several",) * 2)
DRILL = Lesson(
    image_tasks=(*IMAGE_TASKS, *_LISTS, "refuse"),
    video_tasks=(*VIDEO_TASKS, *_LISTS, *("refuse",) * 2, *("refuse_motion",) * 4),
    object_counts=(1, 2, 3, 3, 4, 4, 4, 5, 5),
)
"""What the lessons before leave weakest: long lists, and motions that nothing in the clip makes."""


def language_modules(model: Sa2VA, heads: DenseHeads) -> dict[str, nn.Module]:
    """What the stage trains and saves."""
    return {
        "vision_model": model.mllm.vision_model,
        "mlp1": model.mllm.mlp1,
        "language_model": model.mllm.language_model,
        "text_hidden_fcs": model.text_hidden_fcs,
        "heads": heads,
    }


def language_optimizers(modules: Mapping[str, nn.Module], *, rate: float = 1.0) -> list[Optimizer]:
    """Vision and its projector learn at a fifth of the rate: they come trained."""
    vision = {name: modules[name] for name in ("vision_model", "mlp1")}
    rest = {name: module for name, module in modules.items() if name not in vision}
    return [
        *muon_and_adamw(vision, muon_rate=0.004 * rate, adamw_rate=3e-4 * rate),
        *muon_and_adamw(rest, muon_rate=0.02 * rate, adamw_rate=1.5e-3 * rate),
    ]


def train_language(
    model: Sa2VA,
    heads: DenseHeads,
    packer: Packer,
    loss_of: LanguageLoss,
    run: StageRun,
    lesson: Lesson = FIRST_LESSON,
) -> None:
    """Train all of `language_modules`; every second step is video."""
    model.mllm.train()
    every = lesson.vision_every
    for step in run:
        rng = step.rng
        vision_learns = not lesson.eases_in or step.progress >= VISION_RESTS_UNTIL
        for part in (model.mllm.vision_model, model.mllm.mlp1):
            part.requires_grad_(vision_learns)
        if vision_learns and step.number % every == 1:
            crowded = step.number % (2 * every) == 1
            vision_step(model.mllm, heads, run, rng, crowded=crowded, name="vision_loss")
            continue
        video = step.number % 2 == 0
        tasks = lesson.video_tasks if video else lesson.image_tasks
        if lesson.eases_in and step.progress < EASY_UNTIL:
            tasks = _EASY_VIDEO_TASKS if video else _EASY_IMAGE_TASKS
        clips = run.share_of(VIDEO_CLIPS if video else IMAGE_CLIPS)
        batch = language_batch(
            rng,
            packer,
            video=video,
            clips=clips,
            turns=run.share_of(TURNS, least=4),
            tasks=tasks,
            object_counts=lesson.object_counts,
        ).on(run.device)
        total, log, _ = loss_of(batch, read(model.mllm, batch), dense=vision_learns)
        run.learn(total, {"loss": total - log.get("dense", 0), **log})


@torch.no_grad()
def probe(model: Sa2VA, packer: Packer, *, clips: int, seed: int) -> dict[str, float]:
    """Share of answers that are right word for word when each word is told the right ones before it, by
    kind of task, on unseen training-like scenes. A cheap look; `evaluation/` measures the real thing."""
    right: dict[str, list[bool]] = defaultdict(list)
    rng = random.Random(seed)
    for video in (False, True):
        batch = language_batch(
            rng, packer, video=video, clips=clips, turns=8, tasks=VIDEO_TASKS if video else IMAGE_TASKS
        ).on(model.mllm.vision_model.device)
        output = read(model.mllm, batch)
        for task, good in (*_answers(model, batch, output), *_nearest(model, batch, output)):
            right[("video " if video else "") + task].append(good)
    return {task: sum(good) / len(good) for task, good in sorted(right.items())}


def _answers(model: Sa2VA, batch: Batch, output: LanguageOutput) -> list[tuple[str, bool]]:
    logits: Tensor = model.mllm.language_model.lm_head(output.hidden[:, :-1])
    labels = batch.packed.labels[:, 1:]
    wrong = (logits.argmax(-1) != labels) & (labels != IGNORED)
    numbers = batch.packed.turn_of_token[:, 1:]
    return [
        (turn.task, not bool(wrong[row][numbers[row] == number].any()))
        for row, sample in enumerate(batch.samples)
        for number, turn in enumerate(sample.turns)
    ]


def _nearest(model: Sa2VA, batch: Batch, output: LanguageOutput) -> list[tuple[str, bool]]:
    """Is the place that a `[SEG]` says nearest to that of its own object?"""
    answers = []
    for row, place, thing in batch.packed.segments.tolist():
        said = model.prompt_embeddings(output.hidden[row, place])[:PLACE_DIMS].cpu()
        boxes = torch.from_numpy(batch.samples[row].clip.boxes_tn4[0])
        distance = (place_code(boxes) - said).square().sum(1)
        turn = batch.samples[row].turns[int(batch.packed.turn_of_token[row, place])]
        answers.append((f"nearest {turn.task} {turn.kind}", int(distance.argmin()) == thing))
    return answers
