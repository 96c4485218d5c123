"""Stage 1: the grounding part alone, on the teacher's prompts, points, boxes and masks; then its memory.

Needs no text and no vision-language model, so it runs beside their training in a process of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va_tools.model.grounding import Decoded, FrameFeatures, Prompt, Sam2Grounding
from sa2va_tools.model.propagation import MemoryBank
from sa2va_tools.training.device import moved
from sa2va_tools.training.grounding_data import GroundingBatch, grounding_batch
from sa2va_tools.training.loop import StageRun, Step
from sa2va_tools.training.losses import MaskLoss, mask_loss
from sa2va_tools.training.nano_config import PROMPT_WIDTH
from sa2va_tools.training.teacher import blur_prompts
from sa2va_tools.training.world import SIDE, SceneRecipe

IMAGE_CLIPS, IMAGE_SLOTS = 12, 3
VIDEO_FRAMES, VIDEO_SLOTS = 18, 2
MEMORY_FROM = 0.4  # the part of the stage that still images get for themselves
SHORT_CLIPS, LONG_CLIPS = (3,), (3, 4, 6, 8)
_FRAME_STEPS = (0.01, 0.03, 1 / 15, 1 / 15, 0.12)  # of the clip's time, from a hundred frames to nine


def train_grounding(grounding: Sam2Grounding, run: StageRun) -> None:
    """Images first, then mostly short clips with every fourth step an image step."""
    grounding.train()
    for step in run:
        if step.progress < MEMORY_FROM or step.number % 4 == 1:
            image_step(grounding, run, step, clicks=step.number % 2 == 1)
        else:
            video_step(grounding, run, step, lengths=LONG_CLIPS if step.progress > 0.5 else SHORT_CLIPS)


def image_step(grounding: Sam2Grounding, run: StageRun, step: Step, *, clicks: bool) -> None:
    """The teacher's prompt, and with `clicks` also a point, a box or a mask, on one encoding."""
    recipe = SceneRecipe(unnamed_share=0.25)
    clips = run.share_of(IMAGE_CLIPS)
    batch = grounding_batch(step.rng, recipe, clips=clips, moments=(0.0,), slots=IMAGE_SLOTS)
    batch = moved(batch, run.device)
    features = grounding.encode(batch.pixels[:, 0]).take(_frame_of_object(batch))
    plain = grounding.without_memory(features)
    target = batch.targets[:, 0].flatten(0, 1)
    by_words = decoded_loss(
        grounding.decode(features, plain, grounding.language_prompt(taught(batch, step.noise))),
        target,
        batch.valid,
    )
    values = {"image_iou": by_words.iou_reached, "image_bce": by_words.bce, "image_dice": by_words.dice}
    total = by_words.total
    if clicks:
        kind = step.rng.choice(("point", "point", "box", "box", "mask"))
        prompt = spatial_prompt(grounding, batch, kind, step.noise)
        # SAM-2 decodes a mask prompt on features without the no-memory embedding.
        ground = features.top if kind == "mask" else plain
        by_click = decoded_loss(grounding.decode(features, ground, prompt), target, batch.valid)
        total = total + by_click.total
        values["click_iou"] = by_click.iou_reached
    run.learn(total, values)


def video_step(grounding: Sam2Grounding, run: StageRun, step: Step, *, lengths: Sequence[int]) -> None:
    """A prompt on the first frame (sometimes on some), memory on the others; the image encoder rests.
    `lengths` are numbers of frames to choose from."""
    rng = step.rng
    frames = rng.choice(lengths)
    recipe = SceneRecipe(
        video=True, unnamed_share=0.25, leave_share=0.2, return_share=0.2, crossing_share=0.6
    )
    moments = clip_moments(rng, frames)
    clips = run.share_of(VIDEO_FRAMES // frames, least=1)
    batch = grounding_batch(rng, recipe, clips=clips, moments=moments, slots=VIDEO_SLOTS)
    batch = moved(batch, run.device)
    from_masks = rng.random() < 0.2
    keys = [0]
    if not from_masks and rng.random() < 0.3:
        keys += sorted(rng.sample(range(1, frames), rng.randint(1, min(2, frames - 2))))
    losses = track_losses(grounding, batch, step.noise, keys=keys, from_masks=from_masks)
    total = torch.stack([loss.total for loss in losses]).mean()
    ious = torch.stack([loss.iou_reached for loss in losses])
    scores = torch.stack([loss.score for loss in losses])
    run.learn(
        total,
        {"video_iou": ious.mean(), "video_iou_last": ious[-1], "video_score_loss": scores.mean()},
    )


def clip_moments(rng: random.Random, frames: int) -> list[float]:
    """The first moment of a clip and `frames` - 1 successive ones, of which some begin later: a track that
    was lost may be found again."""
    step = min(rng.choice(_FRAME_STEPS), 1 / (frames - 1))
    start = rng.uniform(step, 1 - (frames - 2) * step) if rng.random() < 0.35 else step
    return [0.0, *(start + k * step for k in range(frames - 1))]


def track_losses(
    grounding: Sam2Grounding,
    batch: GroundingBatch,
    noise: torch.Generator,
    *,
    keys: Sequence[int],
    from_masks: bool,
) -> list[MaskLoss]:
    """One loss per frame, key frames first. `keys` are prompted with the teacher's word for the first frame,
    or the first frame's true masks are given."""
    with torch.no_grad():
        encoded = grounding.encode(batch.pixels.flatten(0, 1))
    prompt = None if from_masks else grounding.language_prompt(taught(batch, noise))
    decoded = track(grounding, encoded, batch, keys=keys, prompt=prompt)
    return [
        decoded_loss(answer, batch.targets[:, t].flatten(0, 1), batch.valid) for t, answer in decoded.items()
    ]


def track(
    grounding: Sam2Grounding,
    encoded: FrameFeatures,
    batch: GroundingBatch,
    *,
    keys: Sequence[int],
    prompt: Prompt | None,
) -> dict[int, Decoded]:
    """Candidates by frame; without a prompt the first frame's true masks are given, and have none."""
    owner = _frame_of_object(batch)
    length = batch.pixels.shape[1]
    bank = MemoryBank(grounding.config.num_maskmem, grounding.config.max_object_pointers)
    answers: dict[int, Decoded] = {}
    for t in [*keys, *(t for t in range(length) if t not in keys)]:
        features = encoded.frames(slice(t, None, length)).take(owner)
        if t in keys and prompt is None:
            masks = batch.masks.flatten(0, 1).float()
            chosen = grounding.mask_as_output(features, _upscale(masks, grounding))
        elif t in keys and prompt is not None:
            answers[t] = grounding.decode(features, grounding.without_memory(features), prompt)
            chosen = grounding.choose(answers[t], gate=True)
        else:
            attended = grounding.attend(features, bank.memories(t, 1), bank.pointers(t, 1))
            answers[t] = grounding.decode(features, attended, grounding.empty_prompt(len(owner)))
            chosen = grounding.choose(answers[t], gate=True)
        memory = grounding.encode_memory(features, chosen, torch.float32)
        if t in keys:
            bank.conditioning[t] = memory
        else:
            bank.remember(t, memory)
    return answers


def taught(batch: GroundingBatch, noise: torch.Generator) -> Tensor:
    """(B·O, C) blurred teacher prompts."""
    return blur_prompts(
        batch.boxes.flatten(0, 1),
        batch.attributes.flatten(0, 1),
        batch.nameable.flatten(),
        PROMPT_WIDTH,
        noise,
    )


def spatial_prompt(
    grounding: Sam2Grounding, batch: GroundingBatch, kind: str, noise: torch.Generator
) -> Prompt:
    """A "point" inside, a "box", or a "mask" of every object."""
    masks = batch.masks.flatten(0, 1)
    if kind == "mask":
        return grounding.mask_prompt(_upscale(masks.float(), grounding))
    if kind == "box":
        boxes = batch.boxes.flatten(0, 1)
        corners = (boxes + torch.randn(boxes.shape, generator=noise).to(boxes.device) * 1.5).view(-1, 2, 2)
        labels = torch.tensor([2, 3], dtype=torch.int32, device=boxes.device).expand(len(corners), 2)
        return grounding.point_prompt(corners, labels, multimask=False)
    points = torch.stack([_point_inside(mask, noise) for mask in masks.cpu()])[:, None].to(masks.device)
    labels = torch.ones(len(points), 1, dtype=torch.int32, device=masks.device)
    return grounding.point_prompt(points, labels, multimask=True)


def _point_inside(mask: Tensor, noise: torch.Generator) -> Tensor:
    inside = mask.nonzero()
    if not len(inside):
        return torch.zeros(2)
    row, column = inside[int(torch.randint(len(inside), (1,), generator=noise))]
    return torch.stack([column, row]).float() + 0.5


def _upscale(masks: Tensor, grounding: Sam2Grounding) -> Tensor:
    """(N, S, S) → (N, 4·4s, 4·4s), the size that mask prompts have."""
    side = 4 * grounding.config.logit_side
    if side == SIDE:
        return masks
    return (F.interpolate(masks[:, None], (side, side), mode="bilinear") >= 0.5).float()[:, 0]


def _frame_of_object(batch: GroundingBatch) -> Tensor:
    clips, slots = batch.valid.shape
    return torch.arange(clips, device=batch.valid.device).repeat_interleave(slots)


def decoded_loss(decoded: Decoded, target: Tensor, valid: Tensor) -> MaskLoss:
    """The loss of N objects decoded together: `target` (N, h, w), `valid` any shape of N."""
    flat = valid.flatten()
    return mask_loss(
        decoded.logits[None],
        decoded.iou[None],
        decoded.object_logits[None, :, None],
        target[None],
        flat[None],
    )
