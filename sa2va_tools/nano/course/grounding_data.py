"""Batches for SAM-2: clips, target masks, and object codes: vectors that describe an object as a prompt.

A code holds place, extent, colour, shape and size, padded to the width of SAM-2's prompts. SAM-2 learns to
decode masks from codes, and the language model learns to write them at `[SEG]`; so the two are trained
separately, at the same time, and fit together afterwards. Codes are used during training only.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va_tools.model.preprocessing.tiles import IMAGENET_MEAN, IMAGENET_STD
from sa2va_tools.nano.world.rendering import Clip, sample_clip
from sa2va_tools.nano.world.sampling import SceneRecipe
from sa2va_tools.nano.world.scenes import COLOURS, SHAPES, SIDE, SIZES

PROMPT_WIDTH = 128
_CENTRE_FREQUENCIES = (1, 2, 4)
_EXTENT_FREQUENCIES = (1, 2)
PLACE_DIMS = 4 * len(_CENTRE_FREQUENCIES) + 4 * len(_EXTENT_FREQUENCIES)
CODE_DIMS = PLACE_DIMS + len(COLOURS) + len(SHAPES) + len(SIZES)
UNNAMED = len(COLOURS)
"""The colour index of an object without a colour name; the colour part of its code is zero."""
_TARGET_SIDE = SIDE // 2


@dataclass(frozen=True, slots=True)
class GroundingBatch:
    """B clips of T frames with O object slots each; S is the side of a frame."""

    pixels: Tensor
    """(B, T, 3, S, S) normalized"""
    targets: Tensor
    """(B, T, O, S/2, S/2): how much of each cell (0 … 1) the visible object covers"""
    masks: Tensor
    """(B, O, S, S) bool: where the object is visible on the first frame"""
    valid: Tensor
    """(B, O) bool: which slots hold an object"""
    boxes: Tensor
    """(B, O, 4) xyxy in pixels on the first frame"""
    attributes: Tensor
    """(B, O, 3) as from `object_attributes`"""
    is_nameable: Tensor
    """(B, O) bool: colour and shape alone identify the object"""


def normalize_frames(frames: np.ndarray) -> Tensor:
    """(…, S, S, 3) uint8 → (…, 3, S, S) float32 with ImageNet's mean and standard deviation."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (torch.from_numpy(frames).movedim(-1, -3).float() / 255 - mean) / std


def cell_coverage(ids_hw: np.ndarray, indices: Sequence[int]) -> Tensor:
    """(S, S) object ids → (N, S/2, S/2): the share of each 2 × 2 cell that each object covers."""
    masks = torch.from_numpy(ids_hw)[None] == torch.tensor([i + 1 for i in indices])[:, None, None]
    return F.avg_pool2d(masks.float()[None], SIDE // _TARGET_SIDE)[0]


def sample_grounding_batch(
    rng: random.Random, recipe: SceneRecipe, *, clips: int, moments: Sequence[float], slots: int
) -> GroundingBatch:
    """New clips that show the given moments (0 … 1), each with up to `slots` of its objects."""
    sampled = [sample_clip(rng, recipe, moments) for _ in range(clips)]
    shape = (clips, slots)
    batch = GroundingBatch(
        pixels=normalize_frames(np.stack([clip.frames_thwc for clip in sampled])),
        targets=torch.zeros(clips, len(moments), slots, _TARGET_SIDE, _TARGET_SIDE),
        masks=torch.zeros(*shape, SIDE, SIDE, dtype=torch.bool),
        valid=torch.zeros(shape, dtype=torch.bool),
        boxes=torch.zeros(*shape, 4),
        attributes=torch.zeros(*shape, 3, dtype=torch.long),
        is_nameable=torch.zeros(shape, dtype=torch.bool),
    )
    for row, clip in enumerate(sampled):
        count = min(slots, len(clip.objects))
        chosen = rng.sample(range(len(clip.objects)), count)
        batch.targets[row, :, :count] = torch.stack([cell_coverage(ids, chosen) for ids in clip.ids_thw])
        batch.masks[row, :count] = torch.from_numpy(np.stack([clip.mask_hw(i) for i in chosen]))
        batch.valid[row, :count] = True
        batch.boxes[row, :count] = torch.from_numpy(clip.boxes_tn4[0, chosen])
        batch.attributes[row, :count] = object_attributes(clip, chosen)
        batch.is_nameable[row, :count] = torch.tensor([_is_nameable(clip, i) for i in chosen])
    return batch


def _is_nameable(clip: Clip, index: int) -> bool:
    obj = clip.objects[index]
    same = [other for other in clip.objects if (other.colour, other.shape) == (obj.colour, obj.shape)]
    return obj.colour is not None and len(same) == 1


# ---- object codes ---------------------------------------------------------------------------------


def encode_places(boxes_xyxy: Tensor) -> Tensor:
    """(N, 4) boxes in pixels → (N, PLACE_DIMS) sines and cosines of centre and extent."""
    unit = boxes_xyxy / SIDE
    centre = (unit[:, :2] + unit[:, 2:]) / 2
    extent = unit[:, 2:] - unit[:, :2]
    waves = []
    for value, frequencies in ((centre, _CENTRE_FREQUENCIES), (extent, _EXTENT_FREQUENCIES)):
        for frequency in frequencies:
            waves += [torch.sin(math.pi * frequency * value), torch.cos(math.pi * frequency * value)]
    return torch.cat(waves, 1)


def encode_objects(boxes_xyxy: Tensor, attributes: Tensor) -> Tensor:
    """(N, 4) boxes and (N, 3) indices of colour, shape and size → (N, PROMPT_WIDTH) codes."""
    colour, shape, size = attributes.unbind(1)
    looks = [
        F.one_hot(colour, len(COLOURS) + 1)[:, : len(COLOURS)],
        F.one_hot(shape, len(SHAPES)),
        F.one_hot(size, len(SIZES)),
    ]
    code = torch.cat([encode_places(boxes_xyxy), *(each.float() for each in looks)], 1)
    return F.pad(code, (0, PROMPT_WIDTH - CODE_DIMS))


def object_attributes(clip: Clip, indices: Sequence[int]) -> Tensor:
    """(N, 3) long: colour (UNNAMED if it has no name), shape, size."""
    objects = [clip.objects[index] for index in indices]
    rows = [(UNNAMED if obj.colour is None else obj.colour, obj.shape, obj.size) for obj in objects]
    return torch.tensor(rows, dtype=torch.long).view(-1, 3)


def sample_codes(batch: GroundingBatch, generator: torch.Generator) -> Tensor:
    """(B·O, C) codes as an imperfect language model would write them, to make the mask decoder robust.

    Centres are off by 2 px (sometimes 8), extents by 10 %. A third of the codes has no attributes. Of objects
    that colour and shape alone identify, some codes have no place.
    """
    boxes = batch.boxes.flatten(0, 1)
    count = len(boxes)

    def uniform() -> Tensor:
        return torch.rand(count, 1, generator=generator).to(boxes.device)

    def normal(columns: int) -> Tensor:
        return torch.randn(count, columns, generator=generator).to(boxes.device)

    spread = torch.where(uniform() < 0.15, 8.0, 2.0)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + normal(2) * spread
    extent = (boxes[:, 2:] - boxes[:, :2]) * (1 + 0.1 * normal(2))
    noisy_boxes = torch.cat([centre - extent / 2, centre + extent / 2], 1)
    code = encode_objects(noisy_boxes, batch.attributes.flatten(0, 1))
    code[:, :CODE_DIMS] += 0.1 * normal(CODE_DIMS)
    has_attributes = uniform() > 0.3
    has_no_place = (uniform() < 0.12) & batch.is_nameable.flatten()[:, None] & has_attributes
    code[:, PLACE_DIMS:CODE_DIMS] *= has_attributes
    code[:, :PLACE_DIMS] *= ~has_no_place
    return code
