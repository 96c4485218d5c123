"""The grounding stage: SAM-2 alone learns from object codes, points, boxes and masks, and then its memory."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va_tools.model.sam2.modules import MaskCandidates, Prompt, Sam2
from sa2va_tools.model.tracking.memory_bank import MemoryBank
from sa2va_tools.nano.course.grounding_data import GroundingBatch, sample_codes, sample_grounding_batch
from sa2va_tools.nano.world.sampling import SceneRecipe
from sa2va_tools.training.device import move_to_device
from sa2va_tools.training.loop import StageLoop, Step
from sa2va_tools.training.losses import MaskLoss, MaskLossWeights, mask_loss

MASK_LOSS_WEIGHTS = MaskLossWeights(bce=10.0, dice=1.0, iou_head=0.2, object_score=0.2)
"""BCE weighs five times as much as published: shapes are small, and it is a mean over all pixels."""
_IMAGE_CLIPS = 12
_IMAGE_SLOTS = 3
_VIDEO_FRAMES = 18
_VIDEO_SLOTS = 2
_MEMORY_FROM = 0.4
"""Until this share of the stage, all steps are image steps."""
_SHORT_CLIPS = (3,)
LONG_CLIPS = (3, 4, 6, 8)
_FRAME_INTERVALS = (0.01, 0.03, 1 / 15, 1 / 15, 0.12)
"""Between two frames, as a share of the clip: as in clips of a hundred frames down to nine."""


def train_grounding(sam2: Sam2, loop: StageLoop) -> None:
    """First images; then mostly short clips, and an image step out of four."""
    sam2.train()
    for step in loop:
        if step.progress < _MEMORY_FROM or step.number % 4 == 1:
            train_on_images(sam2, loop, step, spatial_prompts=step.number % 2 == 1)
        else:
            train_on_clips(sam2, loop, step, lengths=LONG_CLIPS if step.progress > 0.5 else _SHORT_CLIPS)


def train_on_images(sam2: Sam2, loop: StageLoop, step: Step, *, spatial_prompts: bool) -> None:
    """Masks from object codes; with `spatial_prompts` also from points, boxes or masks."""
    recipe = SceneRecipe(unnamed_share=0.25)
    clips = loop.scale_batch(_IMAGE_CLIPS)
    batch = sample_grounding_batch(step.rng, recipe, clips=clips, moments=(0.0,), slots=_IMAGE_SLOTS)
    batch = move_to_device(batch, loop.device)
    features = sam2.encode(batch.pixels[:, 0]).select_rows(_clip_of_each_object(batch))
    without_memory = sam2.embed_without_memory(features)
    code_prompt = sam2.language_prompt(sample_codes(batch, step.noise))
    by_code = _objects_loss(sam2.decode(features, without_memory, code_prompt), batch)
    values = {"image_iou": by_code.best_iou, "image_bce": by_code.bce, "image_dice": by_code.dice}
    total = by_code.total(MASK_LOSS_WEIGHTS)
    if spatial_prompts:
        kind = step.rng.choice(("point", "point", "box", "box", "mask"))
        prompt = sample_spatial_prompt(sam2, batch, kind, step.noise)
        # SAM-2 decodes a mask prompt on features without the no-memory embedding.
        embedding = features.top if kind == "mask" else without_memory
        spatial = _objects_loss(sam2.decode(features, embedding, prompt), batch)
        total = total + spatial.total(MASK_LOSS_WEIGHTS)
        values["spatial_prompt_iou"] = spatial.best_iou
    loop.update(total, values)


def train_on_clips(sam2: Sam2, loop: StageLoop, step: Step, *, lengths: Sequence[int]) -> None:
    """Prompts on the first frame (sometimes on more), memory on the others; the image encoder is not trained.
    `lengths` are numbers of frames to choose from."""
    rng = step.rng
    frames = rng.choice(lengths)
    recipe = SceneRecipe(
        video=True, unnamed_share=0.25, leave_share=0.2, return_share=0.2, crossing_share=0.6
    )
    moments = sample_moments(rng, frames)
    clips = loop.scale_batch(_VIDEO_FRAMES // frames, minimum=1)
    batch = sample_grounding_batch(rng, recipe, clips=clips, moments=moments, slots=_VIDEO_SLOTS)
    batch = move_to_device(batch, loop.device)
    from_masks = rng.random() < 0.2
    prompt_frames = [0]
    if not from_masks and rng.random() < 0.3:
        prompt_frames += sorted(rng.sample(range(1, frames), rng.randint(1, min(2, frames - 2))))
    losses = track_losses(sam2, batch, step.noise, prompt_frames=prompt_frames, from_masks=from_masks)
    total = torch.stack([loss.total(MASK_LOSS_WEIGHTS) for loss in losses]).mean()
    ious = torch.stack([loss.best_iou for loss in losses])
    score_loss = torch.stack([loss.object_score for loss in losses]).mean()
    loop.update(total, {"video_iou": ious.mean(), "video_iou_last": ious[-1], "video_score_loss": score_loss})


def sample_moments(rng: random.Random, frames: int) -> list[float]:
    """The first moment of a clip, and `frames` - 1 evenly spaced later ones. Sometimes there is a gap after
    the first, so that a lost object must be found again."""
    interval = min(rng.choice(_FRAME_INTERVALS), 1 / (frames - 1))
    start = rng.uniform(interval, 1 - (frames - 2) * interval) if rng.random() < 0.35 else interval
    return [0.0, *(start + k * interval for k in range(frames - 1))]


def track_losses(
    sam2: Sam2,
    batch: GroundingBatch,
    noise: torch.Generator,
    *,
    prompt_frames: Sequence[int],
    from_masks: bool,
) -> list[MaskLoss]:
    """One loss per frame, prompted frames first. The prompts are the objects' codes on the first frame, or
    their true masks there, which have no loss."""
    with torch.no_grad():
        encoded = sam2.encode(batch.pixels.flatten(0, 1))
    prompt = None if from_masks else sam2.language_prompt(sample_codes(batch, noise))
    clip_numbers = _clip_of_each_object(batch)
    length = batch.pixels.shape[1]
    bank = MemoryBank(sam2.config.num_maskmem, sam2.config.max_object_pointers)
    candidates: dict[int, MaskCandidates] = {}
    for frame in [*prompt_frames, *(t for t in range(length) if t not in prompt_frames)]:
        features = encoded.select_frames(slice(frame, None, length)).select_rows(clip_numbers)
        if frame in prompt_frames and prompt is None:
            prediction = sam2.mask_as_output(features, _resize_to_prompt(batch.masks, sam2))
        else:
            if frame in prompt_frames and prompt is not None:
                candidates[frame] = sam2.decode(features, sam2.embed_without_memory(features), prompt)
            else:
                attended = sam2.attend(features, bank.memories(frame, 1), bank.pointers(frame, 1))
                candidates[frame] = sam2.decode(features, attended, sam2.empty_prompt(len(clip_numbers)))
            prediction = sam2.select_best_mask(candidates[frame], gate=True)
        memory = sam2.encode_memory(features, prediction, torch.float32)
        if frame in prompt_frames:
            bank.conditioning[frame] = memory
        else:
            bank.add(frame, memory)
    return [_objects_loss(each, batch, frame) for frame, each in candidates.items()]


def sample_spatial_prompt(sam2: Sam2, batch: GroundingBatch, kind: str, noise: torch.Generator) -> Prompt:
    """A "point" inside each object, its "box" with some noise, or its "mask"."""
    masks = batch.masks.flatten(0, 1)
    if kind == "mask":
        return sam2.mask_prompt(_resize_to_prompt(batch.masks, sam2))
    if kind == "box":
        boxes = batch.boxes.flatten(0, 1)
        corners = (boxes + torch.randn(boxes.shape, generator=noise).to(boxes.device) * 1.5).view(-1, 2, 2)
        labels = torch.tensor([2, 3], dtype=torch.int32, device=boxes.device).expand(len(corners), 2)
        return sam2.point_prompt(corners, labels, multimask=False)
    points = torch.stack([_sample_point(mask, noise) for mask in masks.cpu()])[:, None].to(masks.device)
    labels = torch.ones(len(points), 1, dtype=torch.int32, device=points.device)
    return sam2.point_prompt(points, labels, multimask=True)


def _sample_point(mask: Tensor, noise: torch.Generator) -> Tensor:
    inside = mask.nonzero()
    if not len(inside):
        return torch.zeros(2)
    row, column = inside[int(torch.randint(len(inside), (1,), generator=noise))]
    return torch.stack([column, row]).float() + 0.5


def _resize_to_prompt(masks: Tensor, sam2: Sam2) -> Tensor:
    """(B, O, S, S) bool → (B·O, 4·4s, 4·4s) float, the size of mask prompts."""
    side = 4 * sam2.config.logit_side
    resized = F.interpolate(masks.flatten(0, 1).float()[:, None], (side, side), mode="bilinear")
    return (resized >= 0.5).float()[:, 0]


def _clip_of_each_object(batch: GroundingBatch) -> Tensor:
    clips, slots = batch.valid.shape
    return torch.arange(clips, device=batch.valid.device).repeat_interleave(slots)


def _objects_loss(candidates: MaskCandidates, batch: GroundingBatch, frame: int = 0) -> MaskLoss:
    target = batch.targets[:, frame].flatten(0, 1)
    return mask_loss(
        candidates.logits, candidates.iou, candidates.object_logits, target, batch.valid.flatten()
    )
