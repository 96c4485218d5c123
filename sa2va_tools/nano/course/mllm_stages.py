"""The stages that train the vision encoder and the language model, first without SAM-2, then with it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.nano.course import grounding_stage
from sa2va_tools.nano.course.dense import dense_losses, dense_targets, encode_frames
from sa2va_tools.nano.course.grounding_data import cell_coverage, normalize_frames
from sa2va_tools.nano.course.language_batch import LanguageBatch, run_mllm, sample_language_batch
from sa2va_tools.nano.course.language_loss import LanguageLoss
from sa2va_tools.nano.course.nano_model import NanoModel
from sa2va_tools.nano.course.samples import Packer
from sa2va_tools.nano.world.rendering import sample_clip
from sa2va_tools.nano.world.sampling import SceneRecipe
from sa2va_tools.nano.world.tasks import IMAGE_TASKS, VIDEO_TASKS
from sa2va_tools.training.device import move_to_device
from sa2va_tools.training.loop import StageLoop, Step
from sa2va_tools.training.losses import MaskLoss, mask_loss
from sa2va_tools.training.optimizers import muon_and_adamw

_PICTURES = 24
_PLAIN_UNTIL = 0.35
_CROWDED_UNTIL = 0.75
_SHAPE_WEIGHT = 10.0
_CROWDED = SceneRecipe(object_counts=(7, 9, 11), unnamed_share=0.6, free_size_share=0.0, vivid_share=0.3)
_PLAIN = replace(_CROWDED, plain=True)
_USUAL = SceneRecipe(video=True, unnamed_share=0.5, leave_share=0.0, vivid_share=0.3)
_IMAGE_CLIPS = 12
_VIDEO_CLIPS = 5
_TURNS = 8
_MIN_TURNS = 4
_VISION_FROZEN_UNTIL = 0.25
_EASY_UNTIL = 0.2
_JOINT_IMAGE_CLIPS = 10
_JOINT_VIDEO_CLIPS = 5
_JOINT_TURNS = 7
_MAX_SEGMENTS_PER_CLIP = 4
_LATER_SHARE = 0.2

_EASY_IMAGE_TASKS = (
    *("refer",) * 6, *("attribute",) * 3, *("region",) * 3, "where", "refuse", "exists", "ground"
)  # fmt: skip
_EASY_VIDEO_TASKS = (*("refer",) * 6, *("motion",) * 4, "attribute", "refuse", "ground")


@dataclass(frozen=True, slots=True)
class Lesson:
    """The mixture of one stage."""

    image_tasks: tuple[str, ...] = IMAGE_TASKS
    """Each task as often as it is asked."""
    video_tasks: tuple[str, ...] = VIDEO_TASKS
    vision_every: int = 12
    """Every so many steps, the vision encoder gets a step of its own (while it is trained)."""
    starts_easy: bool = False
    """Easy tasks first, and the vision encoder is frozen at first."""
    object_counts: tuple[int, ...] = SceneRecipe().object_counts


LANGUAGE = Lesson(vision_every=6, starts_easy=True)
PRACTICE = Lesson()
_HARD_TASKS = (*("ground",) * 2, *("describe",) * 2, *("count",) * 2, "several", "refuse")
REVIEW = Lesson(image_tasks=(*IMAGE_TASKS, *_HARD_TASKS), video_tasks=(*VIDEO_TASKS, *_HARD_TASKS))
"""More of what is learnt last: lists of objects, counting, and saying that something is not there."""
_LIST_TASKS = (*("ground",) * 6, *("describe",) * 3, *("count",) * 2, *("several",) * 2)
DRILL = Lesson(
    image_tasks=(*IMAGE_TASKS, *_LIST_TASKS, "refuse"),
    video_tasks=(*VIDEO_TASKS, *_LIST_TASKS, *("refuse",) * 2, *("refuse_motion",) * 4),
    object_counts=(1, 2, 3, 3, 4, 4, 4, 5, 5),
)
"""What is weakest after the lessons before: long lists, and motions that no object makes."""


def train_vision(nano: NanoModel, loop: StageLoop) -> None:
    """Train the vision encoder and the projector from what is under each visual token.

    First crowded scenes on plain backgrounds, then crowded scenes, then usual ones. Shapes are learnt last,
    so their loss weighs most. Many objects have nameless colours, and many backgrounds any colour: from named
    colours on grey alone, the encoder learns "this colour never has that shape" and fails on held-out pairs.
    """
    nano.model.mllm.train()
    for step in loop:
        crowded = step.progress < _CROWDED_UNTIL and step.number % 5 != 4
        plain = step.progress < _PLAIN_UNTIL
        train_on_pictures(nano, loop, step, crowded=crowded, plain=plain)


def train_on_pictures(
    nano: NanoModel,
    loop: StageLoop,
    step: Step,
    *,
    crowded: bool,
    plain: bool = False,
    loss_name: str = "loss",
) -> None:
    """One batch of pictures of crowded scenes (with `plain` on plain backgrounds), or of usual ones. The loss
    is logged as `loss_name`."""
    moment = 0.0 if crowded else step.rng.random()
    recipe = (_PLAIN if plain else _CROWDED) if crowded else _USUAL
    clips = [sample_clip(step.rng, recipe, (moment,)) for _ in range(loop.scale_batch(_PICTURES))]
    patches, tokens = encode_frames(nano.model.mllm, clips)
    targets = move_to_device(dense_targets(clips, (moment,)), loop.device)
    total, log = dense_losses(nano.heads, patches, tokens, targets, shape_weight=_SHAPE_WEIGHT)
    suffix = "" if crowded else "_usual"
    loop.update(total, {name + suffix: value for name, value in log.items()}, loss_name=loss_name)


def language_modules(nano: NanoModel) -> dict[str, nn.Module]:
    """What the language stages train and save."""
    return {
        "vision_model": nano.model.mllm.vision_model,
        "mlp1": nano.model.mllm.mlp1,
        "language_model": nano.model.mllm.language_model,
        "text_hidden_fcs": nano.model.text_hidden_fcs,
        "heads": nano.heads,
    }


def language_optimizers(modules: Mapping[str, nn.Module], *, rate: float) -> list[Optimizer]:
    """With `rate` of the usual learning rates. The vision encoder and its projector, which are trained
    before, learn at a fifth of the others' rate."""
    vision = {name: modules[name] for name in ("vision_model", "mlp1")}
    others = {name: module for name, module in modules.items() if name not in vision}
    return [
        *muon_and_adamw(vision, muon_rate=0.004 * rate, adamw_rate=3e-4 * rate),
        *muon_and_adamw(others, muon_rate=0.02 * rate, adamw_rate=1.5e-3 * rate),
    ]


def train_language(nano: NanoModel, loop: StageLoop, lesson: Lesson) -> None:
    """Train all of `language_modules`; every other step is on videos."""
    mllm = nano.model.mllm
    packer = Packer(nano.tokenizer)
    compute_loss = LanguageLoss(nano)
    mllm.train()
    for step in loop:
        train_vision = not lesson.starts_easy or step.progress >= _VISION_FROZEN_UNTIL
        for part in (mllm.vision_model, mllm.mlp1):
            part.requires_grad_(train_vision)
        if train_vision and step.number % lesson.vision_every == 1:
            crowded = step.number % (2 * lesson.vision_every) == 1
            train_on_pictures(nano, loop, step, crowded=crowded, loss_name="vision_loss")
            continue
        video = step.number % 2 == 0
        tasks = lesson.video_tasks if video else lesson.image_tasks
        if lesson.starts_easy and step.progress < _EASY_UNTIL:
            tasks = _EASY_VIDEO_TASKS if video else _EASY_IMAGE_TASKS
        batch = sample_language_batch(
            step.rng,
            packer,
            video=video,
            clips=loop.scale_batch(_VIDEO_CLIPS if video else _IMAGE_CLIPS),
            turns=loop.scale_batch(_TURNS, minimum=_MIN_TURNS),
            tasks=tasks,
            object_counts=lesson.object_counts,
        ).to(loop.device)
        losses = compute_loss(batch, run_mllm(mllm, batch), dense=train_vision)
        # Without the dense loss, which is not there from the beginning: a curve shows one quantity.
        comparable = losses.total - losses.log.get("dense", 0)
        loop.update(losses.total, {"loss": comparable, **losses.log})


def train_joint(nano: NanoModel, loop: StageLoop) -> None:
    """All weights together, as in Sa2VA: mask losses reach the language model through `[SEG]`, and the mask
    decoder learns to decode what the language model really writes. One step in six trains the memory, and one
    points, boxes and masks as prompts."""
    model = nano.model
    packer = Packer(nano.tokenizer)
    compute_loss = LanguageLoss(nano)
    model.train()
    model.requires_grad_(True)
    for step in loop:
        kind = step.number % 6
        if kind == 2:
            grounding_stage.train_on_clips(model.sam2, loop, step, lengths=grounding_stage.LONG_CLIPS)
            continue
        if kind == 5:
            grounding_stage.train_on_images(model.sam2, loop, step, spatial_prompts=True)
            continue
        video = kind in (1, 4)
        batch = sample_language_batch(
            step.rng,
            packer,
            video=video,
            clips=loop.scale_batch(_JOINT_VIDEO_CLIPS if video else _JOINT_IMAGE_CLIPS),
            turns=loop.scale_batch(_JOINT_TURNS, minimum=_MIN_TURNS),
            tasks=DRILL.video_tasks if video else DRILL.image_tasks,
        ).to(loop.device)
        losses = compute_loss(batch, run_mllm(model.mllm, batch), dense=True)
        total = losses.total
        log = losses.log
        if len(losses.seg_prompts):
            masks = segment_loss(model, batch, losses.seg_prompts, step.rng)
            total = total + masks.total(grounding_stage.MASK_LOSS_WEIGHTS)
            log["video_mask_iou" if video else "mask_iou"] = masks.best_iou
        loop.update(total, log)


def segment_loss(model: Sa2VA, batch: LanguageBatch, prompts: Tensor, rng: random.Random) -> MaskLoss:
    """The masks of a few `[SEG]` tokens of every clip; `prompts` (S, C) as in the batch. Mostly on the first
    frame, of some clips on a later one, because `[SEG]` may prompt several frames."""
    numbers_by_clip: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(batch.packed.segments[:, 0].tolist()):
        numbers_by_clip[row].append(number)
    chosen = [
        number
        for numbers in numbers_by_clip.values()
        for number in rng.sample(numbers, min(len(numbers), _MAX_SEGMENTS_PER_CLIP))
    ]
    rows, _, objects = batch.packed.segments[chosen].unbind(1)
    clips = [sample.clip for sample in batch.samples]
    frames = [rng.randrange(len(batch.moments)) if rng.random() < _LATER_SHARE else 0 for _ in clips]
    pictures = np.stack([clip.frames_thwc[frame] for clip, frame in zip(clips, frames, strict=True)])
    features = model.sam2.encode(normalize_frames(pictures).to(rows.device)).select_rows(rows)
    targets = [
        cell_coverage(clips[row].ids_thw[frames[row]], [index])
        for row, index in zip(rows.tolist(), objects.tolist(), strict=True)
    ]
    candidates = model.sam2.decode(
        features, model.sam2.embed_without_memory(features), model.sam2.language_prompt(prompts[chosen])
    )
    target = torch.cat(targets).to(rows.device)
    valid = torch.ones_like(rows, dtype=torch.bool)
    return mask_loss(candidates.logits, candidates.iou, candidates.object_logits, target, valid)
