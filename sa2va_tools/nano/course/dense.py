"""Dense training: what each visual token shows, and the losses of heads that are discarded later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va_tools.model.families.internvl import InternVL, pixel_shuffle
from sa2va_tools.nano.course.grounding_data import PLACE_DIMS, UNNAMED, encode_places, normalize_frames
from sa2va_tools.nano.world import scenes
from sa2va_tools.nano.world.rendering import Clip
from sa2va_tools.nano.world.scenes import SIDE, ShapeObject, find_untrained_labels
from sa2va_tools.training.losses import exclude_class

TOKEN_GRID = 8
"""Visual tokens per side of a frame."""
TOKENS = TOKEN_GRID**2
_PATCH_GRID = 2 * TOKEN_GRID
_FINE_GRID = 4
"""Each patch predicts a 4 × 4 picture of what is covered in it."""
_MIN_COVERAGE = 0.15
_POINTER_WIDTH = 64


@dataclass(frozen=True, slots=True)
class DenseTargets:
    """Of F frames with K tokens each: what the object that covers most of the token is and does."""

    is_covered: Tensor
    """(F, K) bool: an object covers a good part of the token"""
    is_centre: Tensor
    """(F, K) bool: an object's centre is in the token"""
    attributes: Tensor
    """(F, K, 3) as from `object_attributes`, with the size on this frame"""
    excluded: Tensor
    """(F, K, 2): the shape and the colour from `find_untrained_labels`, -1 for none"""
    motion: Tensor
    """(F, K)"""
    place: Tensor
    """(F, K, PLACE_DIMS)"""
    first_place: Tensor
    """(F, K, PLACE_DIMS): the object's place on the clip's first frame"""
    fine: Tensor
    """(F, patches, 16): which share of each part of a patch is covered by any object"""


def dense_targets(clips: Sequence[Clip], moments: Sequence[float]) -> DenseTargets:
    """Targets of every frame of every clip, frames in order within clips; `moments` as in rendering."""
    frames = [_frame_targets(clip, t, moment) for clip in clips for t, moment in enumerate(moments)]
    is_covered, is_centre, labels, boxes, first_boxes = (
        torch.from_numpy(np.stack(column)) for column in zip(*frames, strict=True)
    )
    return DenseTargets(
        is_covered=is_covered,
        is_centre=is_centre,
        attributes=labels[..., :3],
        excluded=labels[..., 4:],
        motion=labels[..., 3],
        place=_encode_tokens(boxes),
        first_place=_encode_tokens(first_boxes),
        fine=_fine_coverage(clips),
    )


def token_coverage(mask_hw: np.ndarray) -> np.ndarray:
    """(S, S) bool → (K,): the share of each token's cell that is covered."""
    cell = SIDE // TOKEN_GRID
    coverage: np.ndarray = mask_hw.reshape(TOKEN_GRID, cell, TOKEN_GRID, cell).mean((1, 3)).ravel()
    return coverage


def _frame_targets(clip: Clip, t: int, moment: float) -> tuple[np.ndarray, ...]:
    """Covered, centre, labels, boxes, and boxes on the first frame of all tokens of one frame."""
    coverage = np.stack([token_coverage(clip.mask_hw(i, t)) for i in range(len(clip.objects))])
    owner = coverage.argmax(0)
    labels = np.array([_labels(obj, moment) for obj in clip.objects], np.int64)
    is_centre = np.zeros(TOKENS, bool)
    for i, (x0, y0, x1, y1) in enumerate(clip.boxes_tn4[t]):
        if coverage[i].any():
            column = int((x0 + x1) / 2 * TOKEN_GRID / SIDE)
            row = int((y0 + y1) / 2 * TOKEN_GRID / SIDE)
            is_centre[min(row, TOKEN_GRID - 1) * TOKEN_GRID + min(column, TOKEN_GRID - 1)] = True
    boxes = clip.boxes_tn4[[t, 0]][:, owner]
    return coverage.max(0) > _MIN_COVERAGE, is_centre, labels[owner], boxes[0], boxes[1]


def _labels(obj: ShapeObject, moment: float) -> tuple[int, ...]:
    """Colour, shape, size on this frame, motion, excluded shape, excluded colour."""
    return (
        UNNAMED if obj.colour is None else obj.colour,
        obj.shape,
        int(obj.radius * obj.scale_at(moment) > scenes.LARGE_FROM_PX),
        obj.motion,
        *(-1 if label is None else label for label in find_untrained_labels(obj)),
    )


def _encode_tokens(boxes: Tensor) -> Tensor:
    return encode_places(boxes.flatten(0, 1)).unflatten(0, boxes.shape[:2])


def _fine_coverage(clips: Sequence[Clip]) -> Tensor:
    is_object = torch.from_numpy(np.concatenate([clip.ids_thw > 0 for clip in clips])).float()
    cell = SIDE // (_PATCH_GRID * _FINE_GRID)
    coverage = F.avg_pool2d(is_object[:, None], cell)[:, 0]
    patches = coverage.view(-1, _PATCH_GRID, _FINE_GRID, _PATCH_GRID, _FINE_GRID).permute(0, 1, 3, 2, 4)
    return patches.reshape(len(coverage), _PATCH_GRID**2, _FINE_GRID**2)


def encode_frames(mllm: InternVL, clips: list[Clip]) -> tuple[Tensor, Tensor]:
    """(F, 4K, vision width) patches and (F, K, language width) visual tokens of all frames of all clips."""
    frames = np.concatenate([clip.frames_thwc for clip in clips])
    pixels = normalize_frames(frames).to(mllm.vision_model.device)
    patches = mllm.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
    return patches, mllm.mlp1(pixel_shuffle(patches, mllm.config.downsample_ratio))


class DenseHeads(nn.Module):
    """Linear heads on visual tokens, on patches, and on middle layers of the language model. Used in training
    only, never saved in a checkpoint."""

    def __init__(self, vision_width: int, language_width: int) -> None:
        super().__init__()
        self.sizes = (1, 1, len(scenes.COLOURS), len(scenes.SHAPES), len(scenes.SIZES), PLACE_DIMS)
        self.token = nn.Linear(language_width, sum(self.sizes))
        self.patch = nn.Linear(vision_width, _FINE_GRID**2)
        self.motion = nn.Linear(language_width, len(scenes.MOTIONS))
        self.origin = nn.Linear(language_width, PLACE_DIMS)
        self.pointer_query = nn.Linear(language_width, _POINTER_WIDTH)
        self.pointer_key = nn.Linear(language_width, _POINTER_WIDTH)


def dense_losses(
    heads: DenseHeads, patches: Tensor, tokens: Tensor, targets: DenseTargets, *, shape_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total loss of the heads on tokens and patches, and what to log. `patches` (F, 4K, vision width),
    `tokens` (F, K, language width)."""
    covered_logit, centre_logit, colour, shape, size, place = heads.token(tokens).split(heads.sizes, -1)
    covered = targets.is_covered
    labels = targets.attributes[covered]
    excluded_shape, excluded_colour = targets.excluded[covered].unbind(-1)
    shape_logits = exclude_class(shape[covered], excluded_shape)
    losses = {
        "covered": F.binary_cross_entropy_with_logits(covered_logit[..., 0], covered.float()),
        "centre": 2 * F.binary_cross_entropy_with_logits(centre_logit[..., 0], targets.is_centre.float()),
        "fine": 2 * F.binary_cross_entropy_with_logits(heads.patch(patches), targets.fine),
        "colour": _colour_loss(exclude_class(colour[covered], excluded_colour), labels[:, 0]),
        "shape": shape_weight * F.cross_entropy(shape_logits, labels[:, 1]),
        "size": F.cross_entropy(size[covered], labels[:, 2]),
        "place": 4 * F.mse_loss(place[covered], targets.place[covered]),
    }
    is_named = labels[:, 0] != UNNAMED
    with torch.no_grad():
        colour_is_right = colour[covered].argmax(-1) == labels[:, 0]
        log = {
            "colour_accuracy": colour_is_right[is_named].float().mean(),
            "shape_accuracy": (shape[covered].argmax(-1) == labels[:, 1]).float().mean(),
            "place_error": losses["place"] / 4,
            "fine_loss": losses["fine"] / 2,
            "centre_loss": losses["centre"] / 2,
        }
    return torch.stack(list(losses.values())).sum(), log


def _colour_loss(logits: Tensor, colours: Tensor) -> Tensor:
    """The mean over objects with a colour name; 0 if there are none, which happens in small batches."""
    total = F.cross_entropy(logits, colours, ignore_index=UNNAMED, reduction="sum")
    return total / (colours != UNNAMED).sum().clamp(min=1)
