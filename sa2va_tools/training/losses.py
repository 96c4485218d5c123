"""Losses of the unified instruction tuning: text cross-entropy, mask BCE + DICE, IoU head, object score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_MIN_OBJECT_CELLS = 2
"""An object whose target covers no more than this counts as absent."""
_EXCLUDED_LOGIT = -1e4


@dataclass(frozen=True, slots=True)
class MaskLossWeights:
    """How much each part of a `MaskLoss` counts. The published Sa2VA uses 2.0 for BCE and 0.5 for DICE."""

    bce: float
    dice: float
    iou_head: float
    object_score: float


@dataclass(frozen=True, slots=True)
class MaskLoss:
    """Means over the valid objects; `best_iou` is the IoU of each object's best candidate."""

    bce: Tensor
    dice: Tensor
    iou_head: Tensor
    object_score: Tensor
    best_iou: Tensor

    def total(self, weights: MaskLossWeights) -> Tensor:
        return (
            weights.bce * self.bce
            + weights.dice * self.dice
            + weights.iou_head * self.iou_head
            + weights.object_score * self.object_score
        )


def mask_loss(logits: Tensor, iou: Tensor, score: Tensor, target: Tensor, valid: Tensor) -> MaskLoss:
    """All candidate masks are supervised alike. The target of an absent object is an empty mask and a low
    score.

    Of N objects with M candidates each: `logits` (N, M, h, w), predicted `iou` (N, M), `score` (N,) logits,
    `target` (N, h, w) in 0 … 1, `valid` (N,) bool: which objects count.
    """
    is_present = target.sum((-1, -2)) > _MIN_OBJECT_CELLS
    targets = target[:, None].expand_as(logits)
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((-1, -2)).mean(-1)
    probability = logits.sigmoid()
    overlap = (probability * targets).sum((-1, -2))
    dice = 1 - (2 * overlap + 1) / (probability.sum((-1, -2)) + targets.sum((-1, -2)) + 1)
    actual_iou = _binary_iou(logits, targets)
    visible = (valid & is_present).float()
    visible_count = visible.sum().clamp(min=1)
    valid_count = valid.float().sum().clamp(min=1)
    score_loss = F.binary_cross_entropy_with_logits(score, is_present.float(), reduction="none")
    return MaskLoss(
        bce=(bce * valid).sum() / valid_count,
        dice=(dice.mean(-1) * visible).sum() / visible_count,
        iou_head=((iou - actual_iou).square().mean(-1) * visible).sum() / visible_count,
        object_score=(score_loss * valid).sum() / valid_count,
        best_iou=(actual_iou.amax(-1) * visible).sum() / visible_count,
    )


@torch.no_grad()
def _binary_iou(logits: Tensor, target: Tensor) -> Tensor:
    predicted = logits > 0
    actual = target > 0.5
    union = (predicted | actual).sum((-1, -2)).clamp(min=1)
    return (predicted & actual).sum((-1, -2)) / union


def exclude_class(logits: Tensor, excluded: Tensor) -> Tensor:
    """(N, C) logits in which one class per row can neither be chosen nor learn; `excluded` (N,) are class
    numbers, -1 excludes none."""
    lowest = logits.detach().new_full((1, 1), _EXCLUDED_LOGIT).expand(len(logits), 1)
    padded = torch.cat([logits, lowest], 1)
    columns = excluded.where(excluded >= 0, excluded.new_tensor(logits.shape[1]))
    return padded.scatter(1, columns[:, None], lowest)[:, :-1]


def text_loss(
    logits: Tensor, labels: Tensor, excluded: Tensor, token_weights: Tensor, emphasis: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of N answer tokens, and the accuracy on content words.

    `logits` (N, V), `labels` (N,) long. `token_weights` (V,) is 1 for content words and less for the words of
    answer templates, which are far more frequent and would dominate the loss. `excluded` (N,) is a token that
    the loss must not suppress (see `exclude_class`), or -1; `emphasis` (N,) multiplies the weight.
    """
    logits = exclude_class(logits, excluded)
    is_content = token_weights[labels] >= 1
    weight = token_weights[labels] * emphasis
    loss = F.cross_entropy(logits, labels, reduction="none")
    is_right = (logits.argmax(-1) == labels) & is_content
    return (loss * weight).sum() / weight.sum(), is_right.sum() / is_content.sum().clamp(min=1)
