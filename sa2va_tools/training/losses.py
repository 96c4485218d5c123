"""Losses of the unified instruction tuning: text cross-entropy, mask BCE + DICE, IoU head, object score.

Tensors in, tensors out: it knows nothing of batches, scenes or schedules.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_BCE_WEIGHT = 10.0  # shapes are small: a mean over all pixels needs more weight than upstream's 2.0
_DICE_WEIGHT = 1.0
_IOU_WEIGHT = 0.2
_SCORE_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class MaskLoss:
    """Means over the valid objects; `iou_reached` is of the candidate that is truly best."""

    bce: Tensor
    dice: Tensor
    iou_head: Tensor
    score: Tensor
    iou_reached: Tensor

    @property
    def total(self) -> Tensor:
        return (
            _BCE_WEIGHT * self.bce
            + _DICE_WEIGHT * self.dice
            + _IOU_WEIGHT * self.iou_head
            + _SCORE_WEIGHT * self.score
        )


def mask_loss(logits: Tensor, iou: Tensor, score: Tensor, target: Tensor, valid: Tensor) -> MaskLoss:
    """Every candidate mask is supervised alike; an absent object asks for an empty mask and a low score.

    `logits` (B, O, M, h, w), `iou` (B, O, M), `score` (B, O, 1) logits, `target` (B, O, h, w) in 0 … 1,
    `valid` (B, O) bool: which object slots are used.
    """
    present = target.sum((-1, -2)) > 2
    wanted = target[:, :, None].expand_as(logits)
    bce = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((-1, -2)).mean(-1)
    probability = logits.sigmoid()
    overlap = (probability * wanted).sum((-1, -2))
    dice = 1 - (2 * overlap + 1) / (probability.sum((-1, -2)) + wanted.sum((-1, -2)) + 1)
    reached = _iou(logits, wanted)
    seen = (valid & present).float()
    seen_count = seen.sum().clamp(min=1)
    valid_count = valid.float().sum().clamp(min=1)
    score_loss = F.binary_cross_entropy_with_logits(score[..., 0], present.float(), reduction="none")
    return MaskLoss(
        bce=(bce * valid).sum() / valid_count,
        dice=(dice.mean(-1) * seen).sum() / seen_count,
        iou_head=((iou - reached).square().mean(-1) * seen).sum() / seen_count,
        score=(score_loss * valid).sum() / valid_count,
        iou_reached=(reached.amax(-1) * seen).sum() / seen_count,
    )


@torch.no_grad()
def _iou(logits: Tensor, target: Tensor) -> Tensor:
    ours, theirs = logits > 0, target > 0.5
    union = (ours | theirs).sum((-1, -2)).clamp(min=1)
    return (ours & theirs).sum((-1, -2)) / union


def without(logits: Tensor, choices: Tensor) -> Tensor:
    """(N, C) logits with one choice per row taken out; `choices` (N,), -1 takes none."""
    lowest = logits.detach().new_full((1, 1), -1e4).expand(len(logits), 1)
    padded = torch.cat([logits, lowest], 1)
    places = choices.where(choices >= 0, choices.new_tensor(logits.shape[1]))
    return padded.scatter(1, places[:, None], lowest)[:, :-1]


def text_loss(
    logits: Tensor, labels: Tensor, kept: Tensor, token_weights: Tensor, emphasis: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy over N answer tokens, and the accuracy on the words that carry content.

    `logits` (N, V), `labels` (N,) long, `token_weights` (V,): 1 for content, less for the template's words,
    which are far more and would drown the rest. `kept` (N,) is a token that takes no part in
    the choice, or -1; `emphasis` (N,) multiplies the weight.
    """
    logits = without(logits, kept)
    content = token_weights[labels] >= 1
    weight = token_weights[labels] * emphasis
    loss = F.cross_entropy(logits, labels, reduction="none")
    right = (logits.argmax(-1) == labels) & content
    return (loss * weight).sum() / weight.sum(), right.sum() / content.sum().clamp(min=1)
