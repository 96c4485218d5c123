"""Stage 1: the grounding part alone, on the teacher's prompts, points, boxes and masks; then its memory.

Needs no text and no vision-language model, so it runs beside their training in a process of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va_tools.model.grounding import Chosen, Decoded, FrameFeatures, Memory, Prompt, Sam2Grounding
from sa2va_tools.training.grounding_data import GroundingBatch, grounding_batch
from sa2va_tools.training.loop import StageRun, Step
from sa2va_tools.training.losses import MaskLoss, mask_loss
from sa2va_tools.training.nano_config import PROMPT_WIDTH
from sa2va_tools.training.teacher import blur_prompts
from sa2va_tools.training.world import SIDE, SceneRecipe

IMAGE_CLIPS, IMAGE_SLOTS = 12, 3
VIDEO_SLOTS = 2
MEMORY_FROM = 0.4  # the part of the stage that still images get for themselves


def train_grounding(grounding: Sam2Grounding, run: StageRun, *, seed: int) -> None:
    """Images first, then mostly short clips with every fourth step an image step."""
    rng = random.Random(seed)
    noise = torch.Generator().manual_seed(seed)
    grounding.train()
    for step in run:
        if step.progress < MEMORY_FROM or step.number % 4 == 1:
            image_step(grounding, run, rng, noise, clicks=step.number % 3 == 0)
        else:
            video_step(grounding, run, rng, noise, step)


def image_step(
    grounding: Sam2Grounding, run: StageRun, rng: random.Random, noise: torch.Generator, *, clicks: bool
) -> None:
    """The teacher's prompt, and with `clicks` also a point, a box or a mask, on one encoding."""
    recipe = SceneRecipe(unnamed_share=0.25)
    batch = grounding_batch(rng, recipe, clips=IMAGE_CLIPS, frames=1, slots=IMAGE_SLOTS)
    features = grounding.encode(batch.pixels[:, 0]).take(_frame_of_object(batch))
    plain = grounding.without_memory(features)
    target = batch.targets[:, 0].flatten(0, 1)
    by_words = decoded_loss(
        grounding.decode(features, plain, grounding.language_prompt(taught(batch, noise))),
        target,
        batch.valid,
    )
    values = {"image_iou": by_words.iou_reached, "image_bce": by_words.bce, "image_dice": by_words.dice}
    total = by_words.total
    if clicks:
        kind = rng.choice(("point", "box", "box", "mask"))
        prompt = spatial_prompt(grounding, batch, kind, noise)
        # SAM-2 decodes a mask prompt on features without the no-memory embedding.
        ground = features.top if kind == "mask" else plain
        by_click = decoded_loss(grounding.decode(features, ground, prompt), target, batch.valid)
        total = total + by_click.total
        values["click_iou"] = by_click.iou_reached
    run.learn(total, values)


def video_step(
    grounding: Sam2Grounding, run: StageRun, rng: random.Random, noise: torch.Generator, step: Step
) -> None:
    """A prompt on the first frame, memory on the others; the image encoder rests."""
    frames = rng.choice((3, 3, 4, 6)) if step.progress > 0.5 else 3
    recipe = SceneRecipe(
        video=True,
        unnamed_share=0.25,
        motion_share=rng.choice((0.1, 0.2, 0.35, 0.6)),
        leave_share=0.15,
        return_share=0.15,
    )
    batch = grounding_batch(rng, recipe, clips=18 // frames, frames=frames, slots=VIDEO_SLOTS)
    losses = track_losses(grounding, batch, noise, from_masks=rng.random() < 0.2)
    total = torch.stack([loss.total for loss in losses]).mean()
    ious = torch.stack([loss.iou_reached for loss in losses])
    scores = torch.stack([loss.score for loss in losses])
    run.learn(
        total,
        {"video_iou": ious.mean(), "video_iou_last": ious[-1], "video_score_loss": scores.mean()},
    )


def track_losses(
    grounding: Sam2Grounding, batch: GroundingBatch, noise: torch.Generator, *, from_masks: bool
) -> list[MaskLoss]:
    """One loss per frame."""
    with torch.no_grad():
        encoded = grounding.encode(batch.pixels.flatten(0, 1))
    prompt = None if from_masks else grounding.language_prompt(taught(batch, noise))
    masks = batch.masks.flatten(0, 1).float() if from_masks else None
    decoded = track(grounding, encoded, batch, prompt=prompt, masks=masks)
    return [
        decoded_loss(answer, batch.targets[:, t].flatten(0, 1), batch.valid)
        for t, answer in enumerate(decoded)
        if answer is not None
    ]


def track(
    grounding: Sam2Grounding,
    encoded: FrameFeatures,
    batch: GroundingBatch,
    *,
    prompt: Prompt | None,
    masks: Tensor | None,
) -> list[Decoded | None]:
    """Candidates per frame (None where the mask itself was given), remembering as Sa2VA does."""
    owner = _frame_of_object(batch)
    length = batch.pixels.shape[1]
    answers: list[Decoded | None] = []
    memories: list[Memory] = []
    empty = grounding.empty_prompt(len(owner))
    for t in range(length):
        features = encoded.take(owner * length + t)
        if t == 0 and masks is not None:
            chosen = grounding.mask_as_output(features, _upscale(masks, grounding))
            answers.append(None)
        else:
            if t == 0 and prompt is not None:
                decoded = grounding.decode(features, grounding.without_memory(features), prompt)
            else:
                decoded = grounding.decode(features, recall(grounding, features, memories), empty)
            chosen = grounding.choose(decoded, gate=False)
            answers.append(decoded)
        memories.append(grounding.encode_memory(features, _gated(chosen), torch.float32))
    return answers


def recall(grounding: Sam2Grounding, features: FrameFeatures, memories: Sequence[Memory]) -> Tensor:
    """Attention to the first frame and to the latest ones, as `propagation` does at inference."""
    now = len(memories)
    recent = range(min(grounding.config.num_maskmem - 1, now - 1), 0, -1)
    kept = [(0, memories[0].features)] + [(k, memories[now - k].features) for k in recent]
    pointer_count = min(grounding.config.max_object_pointers, now)
    pointers = [memories[0].pointer] + [memories[now - k].pointer for k in range(1, pointer_count)]
    return grounding.attend(features, kept, pointers)


def _gated(chosen: Chosen) -> Chosen:
    """The nano empties the masks of absent objects, and remembers them so; the gradient stays alive."""
    present = (chosen.object_logits > 0)[:, None, None]
    return Chosen(
        torch.where(present, chosen.logits, chosen.logits.new_tensor(-1024.0)),
        chosen.pointer,
        chosen.object_logits,
    )


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
        corners = (boxes + torch.randn(boxes.shape, generator=noise) * 1.5).view(-1, 2, 2)
        labels = torch.tensor([2, 3], dtype=torch.int32).expand(len(corners), 2)
        return grounding.point_prompt(corners, labels, multimask=False)
    points = torch.stack([_point_inside(mask, noise) for mask in masks])[:, None]
    labels = torch.ones(len(points), 1, dtype=torch.int32)
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
    return torch.arange(clips).repeat_interleave(slots)


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
