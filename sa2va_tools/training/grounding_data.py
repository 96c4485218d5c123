"""Batches for the grounding part: clips, target masks and what a prompt may say of each object."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va_tools.training.rendering import Clip, sample_clip
from sa2va_tools.training.teacher import attributes_of
from sa2va_tools.training.world import SIDE, SceneRecipe

_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
TARGET_SIDE = SIDE // 2


@dataclass(frozen=True, slots=True)
class GroundingBatch:
    """B clips of T frames with O object slots each.

    `pixels` (B, T, 3, S, S) normalised; `targets` (B, T, O, S/2, S/2) cover of each cell by the visible
    object; `masks` (B, O, S, S) bool, visible on the first frame; `valid` (B, O) bool; `boxes` (B, O, 4)
    pixels on the first frame; `attributes` (B, O, 3); `nameable` (B, O) bool: colour and shape alone
    single it out.
    """

    pixels: Tensor
    targets: Tensor
    masks: Tensor
    valid: Tensor
    boxes: Tensor
    attributes: Tensor
    nameable: Tensor


def normalise(frames: np.ndarray) -> Tensor:
    """(…, S, S, 3) uint8 → (…, 3, S, S) float32 with ImageNet's mean and deviation."""
    return (torch.from_numpy(frames).movedim(-1, -3).float() / 255 - _MEAN) / _STD


def cell_cover(ids_hw: np.ndarray, indices: Sequence[int]) -> Tensor:
    """(S, S) ids → (N, S/2, S/2): the share of each 2×2 cell that object i covers."""
    own = torch.from_numpy(ids_hw)[None] == torch.tensor([i + 1 for i in indices])[:, None, None]
    return F.avg_pool2d(own.float()[None], SIDE // TARGET_SIDE)[0]


def grounding_batch(
    rng: random.Random, recipe: SceneRecipe, *, clips: int, moments: Sequence[float], slots: int
) -> GroundingBatch:
    """A fresh batch of clips that show the given moments (0 … 1) of their time."""
    frames = len(moments)
    rows = [sample_clip(rng, recipe, moments) for _ in range(clips)]
    shape = (clips, slots)
    targets = torch.zeros(clips, frames, slots, TARGET_SIDE, TARGET_SIDE)
    masks = torch.zeros(*shape, SIDE, SIDE, dtype=torch.bool)
    valid = torch.zeros(shape, dtype=torch.bool)
    nameable = torch.zeros(shape, dtype=torch.bool)
    boxes = torch.zeros(*shape, 4)
    attributes = torch.zeros(*shape, 3, dtype=torch.long)
    for b, clip in enumerate(rows):
        chosen = rng.sample(range(len(clip.objects)), min(slots, len(clip.objects)))
        count = len(chosen)
        for t in range(frames):
            targets[b, t, :count] = cell_cover(clip.ids_thw[t], chosen)
        masks[b, :count] = torch.from_numpy(np.stack([clip.mask_hw(i) for i in chosen]))
        valid[b, :count] = True
        boxes[b, :count] = torch.from_numpy(clip.boxes_tn4[0, chosen])
        attributes[b, :count] = attributes_of(clip, chosen)
        nameable[b, :count] = torch.tensor([_is_nameable(clip, i) for i in chosen])
    pixels = normalise(np.stack([clip.frames_thwc for clip in rows]))
    return GroundingBatch(pixels, targets, masks, valid, boxes, attributes, nameable)


def _is_nameable(clip: Clip, index: int) -> bool:
    mine = clip.objects[index]
    same = [o for o in clip.objects if (o.colour, o.shape) == (mine.colour, mine.shape)]
    return mine.colour is not None and len(same) == 1
