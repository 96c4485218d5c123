"""Throw-away heads that tell the visual tokens what they should know: training only, never shipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va_tools.training.losses import without
from sa2va_tools.training.rendering import Clip
from sa2va_tools.training.teacher import PLACE_DIMS, UNNAMED, place_code
from sa2va_tools.training.world import COLOURS, LARGE_FROM_PX, MOTIONS, SHAPES, SIDE, SIZES, held_out_looks

TOKEN_GRID = 8
TOKEN_CELLS = TOKEN_GRID**2
_PATCH_GRID = 2 * TOKEN_GRID
_FINE = 4  # each patch predicts a 4×4 picture of what is covered in it
_MIN_COVER = 0.15
_POINTER_WIDTH = 64


@dataclass(frozen=True, slots=True)
class DenseTargets:
    """What the K tokens of F frames show.

    `has` and `centre` (F, K) bool; of the object that covers most of the token: `attributes` (F, K, 3);
    `kept` (F, K, 2), the shape and the colour that it must not be told it has not (-1 for none, see
    `held_out_looks`); `motion` (F, K); `place` and `origin` (F, K, PLACE_DIMS), where it is and was on
    the clip's first frame; `fine` (F, patches, 16), which parts of each patch any object covers.
    """

    has: Tensor
    centre: Tensor
    attributes: Tensor
    kept: Tensor
    motion: Tensor
    place: Tensor
    origin: Tensor
    fine: Tensor


class DenseHeads(nn.Module):
    """Linear readings of visual tokens, of patches, and of the language model's second layer."""

    def __init__(self, vision_width: int, language_width: int) -> None:
        super().__init__()
        self.sizes = (1, 1, len(COLOURS), len(SHAPES), len(SIZES), PLACE_DIMS)
        self.token = nn.Linear(language_width, sum(self.sizes))
        self.patch = nn.Linear(vision_width, _FINE**2)
        self.motion = nn.Linear(language_width, len(MOTIONS))
        self.origin = nn.Linear(language_width, PLACE_DIMS)
        self.pointer_query = nn.Linear(language_width, _POINTER_WIDTH)
        self.pointer_key = nn.Linear(language_width, _POINTER_WIDTH)


def dense_targets(clips: Sequence[Clip], progress: Sequence[float]) -> DenseTargets:
    """Targets of every frame of every clip, frames in order within clips; `progress` as rendered."""
    rows = [_frame_targets(clip, t, moment) for clip in clips for t, moment in enumerate(progress)]
    has, centre, labels, boxes, starts = (np.stack(column) for column in zip(*rows, strict=True))
    attributes = torch.from_numpy(labels)
    place, origin = (
        place_code(torch.from_numpy(b).flatten(0, 1)).unflatten(0, b.shape[:2]) for b in (boxes, starts)
    )
    covered = torch.from_numpy(np.concatenate([clip.ids_thw > 0 for clip in clips])).float()
    cell = SIDE // (_PATCH_GRID * _FINE)
    fine = F.avg_pool2d(covered[:, None], cell)[:, 0].view(-1, _PATCH_GRID, _FINE, _PATCH_GRID, _FINE)
    return DenseTargets(
        torch.from_numpy(has),
        torch.from_numpy(centre),
        attributes[..., :3],
        attributes[..., 4:],
        attributes[..., 3],
        place,
        origin,
        fine.permute(0, 1, 3, 2, 4).reshape(len(rows), _PATCH_GRID**2, _FINE**2),
    )


def token_cover(mask_hw: np.ndarray) -> np.ndarray:
    """(S, S) bool → (K,) the share of each token's cell that is covered."""
    cell = SIDE // TOKEN_GRID
    cover: np.ndarray = mask_hw.reshape(TOKEN_GRID, cell, TOKEN_GRID, cell).mean((1, 3)).ravel()
    return cover


def _frame_targets(clip: Clip, t: int, progress: float) -> tuple[np.ndarray, ...]:
    covers = np.stack([token_cover(clip.mask_hw(i, t)) for i in range(len(clip.objects))])
    owner = covers.argmax(0)
    labels = np.array(
        [
            (
                UNNAMED if o.colour is None else o.colour,
                o.shape,
                int(o.radius * o.scale_at(progress) > LARGE_FROM_PX),
                o.motion,
                *(-1 if kept is None else kept for kept in held_out_looks(o)),
            )
            for o in clip.objects
        ],
        np.int64,
    )
    centre = np.zeros(TOKEN_CELLS, bool)
    for i, (x0, y0, x1, y1) in enumerate(clip.boxes_tn4[t]):
        if covers[i].any():
            column, row = int((x0 + x1) / 2 * TOKEN_GRID / SIDE), int((y0 + y1) / 2 * TOKEN_GRID / SIDE)
            centre[min(row, TOKEN_GRID - 1) * TOKEN_GRID + min(column, TOKEN_GRID - 1)] = True
    return (
        covers.max(0) > _MIN_COVER,
        centre,
        labels[owner],
        clip.boxes_tn4[t][owner],
        clip.boxes_tn4[0][owner],
    )


def dense_losses(
    heads: DenseHeads, patches: Tensor, tokens: Tensor, targets: DenseTargets, *, shape_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total over all heads but motion and pointers, and what to log. `patches` (F, 4K, vision width),
    `tokens` (F, K, language width)."""
    has, centre, colour, shape, size, place = heads.token(tokens).split(heads.sizes, -1)
    covered = targets.has
    wanted = targets.attributes[covered]
    kept_shape, kept_colour = targets.kept[covered].unbind(-1)
    losses = {
        "has": F.binary_cross_entropy_with_logits(has[..., 0], covered.float()),
        "centre": 2 * F.binary_cross_entropy_with_logits(centre[..., 0], targets.centre.float()),
        "fine": 2 * F.binary_cross_entropy_with_logits(heads.patch(patches), targets.fine),
        "colour": _colour_loss(without(colour[covered], kept_colour), wanted[:, 0]),
        "shape": shape_weight * F.cross_entropy(without(shape[covered], kept_shape), wanted[:, 1]),
        "size": F.cross_entropy(size[covered], wanted[:, 2]),
        "place": 4 * F.mse_loss(place[covered], targets.place[covered]),
    }
    named = wanted[:, 0] != UNNAMED
    with torch.no_grad():
        log = {
            "colour_right": (colour[covered].argmax(-1) == wanted[:, 0])[named].float().mean(),
            "shape_right": (shape[covered].argmax(-1) == wanted[:, 1]).float().mean(),
            "place_error": losses["place"] / 4,
            "fine_loss": losses["fine"] / 2,
            "centre_loss": losses["centre"] / 2,
        }
    return torch.stack(list(losses.values())).sum(), log


def _colour_loss(logits: Tensor, colours: Tensor) -> Tensor:
    """Mean over the named paints; 0 where there are none, as in a small batch there may be."""
    summed = F.cross_entropy(logits, colours, ignore_index=UNNAMED, reduction="sum")
    return summed / (colours != UNNAMED).sum().clamp(min=1)
