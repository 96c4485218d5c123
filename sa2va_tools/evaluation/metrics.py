"""Scores of masks and answers: cIoU, gIoU, precision at a threshold, J, and confidence intervals for them.

Definitions are those of the field: cIoU sums intersections and unions over all cases before it divides
(RefCOCO), gIoU is the mean of the cases' IoUs (ReasonSeg), J is the mean IoU over the frames of a clip
(DAVIS), N-acc and T-acc score expressions that may refer to nothing (gRefCOCO, GRES). Boundaries and J&F are
in `video_metrics`, grounded captions in `caption_metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Case = TypeVar("Case")
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many pixels are in both masks, and how many in at least one.

    `iou` equals `pycocotools.mask.iou`, except for two empty masks, for which COCO returns 0.
    """

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """1.0 if both masks are empty: the prediction is right that nothing is there."""
        return self.intersection / self.union if self.union else 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its bootstrap interval, and the number of cases that it is computed from."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] n={self.count}"


def measure_overlap(predicted: Mask, target: Mask, *, ignored: Mask | None = None) -> Overlap:
    """The overlap of two boolean masks of the same shape, with any number of axes.

    Pixels of `ignored` are counted in neither (label 255 of ReasonSeg). ValueError if shapes differ or a mask
    is not bool.
    """
    for mask in (predicted, target) if ignored is None else (predicted, target, ignored):
        if mask.shape != predicted.shape:
            raise ValueError(f"masks differ in shape: {predicted.shape} and {mask.shape}")
        if mask.dtype != np.bool_:
            raise ValueError(f"masks: expected bool, got {mask.dtype}")
    both = predicted & target
    either = predicted | target
    if ignored is not None:
        both &= ~ignored
        either &= ~ignored
    return Overlap(int(np.count_nonzero(both)), int(np.count_nonzero(either)))


def cumulative_iou(overlaps: Sequence[Overlap]) -> float:
    """cIoU: total intersection over total union, so large objects count more. ValueError without a case."""
    if not overlaps:
        raise ValueError("cumulative_iou needs at least one case")
    union = sum(overlap.union for overlap in overlaps)
    return sum(overlap.intersection for overlap in overlaps) / union if union else 1.0


def mean_iou(overlaps: Sequence[Overlap]) -> float:
    """gIoU: the mean of the cases' IoUs. ValueError without a case."""
    return mean([overlap.iou for overlap in overlaps], "mean_iou needs at least one case")


def precision_at(overlaps: Sequence[Overlap], threshold: float) -> float:
    """The share of cases whose IoU is above the threshold. ValueError without a case."""
    hits = [overlap.iou > threshold for overlap in overlaps]
    return mean(hits, "precision_at needs at least one case")


def region_similarity(predicted_thw: Mask, target_thw: Mask) -> float:
    """J of one object in one clip: the mean over frames of the IoU of (T, height, width) masks.

    A frame without the object counts 1 if nothing was predicted there, otherwise 0. ValueError if shapes
    differ or there is no frame.
    """
    return mean([measure_overlap(*pair).iou for pair in pair_frames(predicted_thw, target_thw)])


def pair_frames(predicted_thw: Mask, target_thw: Mask) -> Iterator[tuple[Mask, Mask]]:
    """The frames of two clips. ValueError if shapes differ or there is no frame."""
    if predicted_thw.shape != target_thw.shape or not len(predicted_thw):
        raise ValueError(
            "clips must have the same shape and at least one frame: "
            f"{predicted_thw.shape}, {target_thw.shape}"
        )
    return zip(predicted_thw, target_thw, strict=True)


def bootstrap(
    cases: Sequence[Case], score: Callable[[Sequence[Case]], float], *, rounds: int = 500, level: float = 0.95
) -> Interval:
    """The score of all cases, and the interval that contains `level` (0 … 1) of the scores of resampled
    cases. ValueError without a case."""
    if not cases:
        raise ValueError("bootstrap needs at least one case")
    rng = np.random.default_rng(0)
    samples = rng.integers(0, len(cases), (rounds, len(cases)))
    scores = [score([cases[i] for i in sample]) for sample in samples]
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=score(cases), low=float(low), high=float(high), count=len(cases))


def mean(values: Sequence[float], needs: str = "mean needs at least one value") -> float:
    """The mean of numbers or booleans, as a score for `bootstrap`. ValueError (`needs`) if there are none."""
    if not len(values):
        raise ValueError(needs)
    return float(np.mean(values))


def phrase_f1(predicted: Sequence[str], target: Sequence[str]) -> float:
    """F1 of two lists of phrases as multisets: order is ignored, repetitions count. 1.0 for none at all."""
    if not predicted and not target:
        return 1.0
    unmatched = list(target)
    hits = 0
    for phrase in predicted:
        if phrase in unmatched:
            unmatched.remove(phrase)
            hits += 1
    return 2 * hits / (len(predicted) + len(target))


@dataclass(frozen=True, slots=True)
class GresCase:
    """One expression: whether it refers to anything, whether anything was predicted, and the overlap.

    cIoU and gIoU are those of the overlaps: without a target, the IoU is 1 if nothing was predicted, else 0.
    """

    overlap: Overlap
    has_target: bool
    has_prediction: bool


def compare_expression(predicted: Mask, target: Mask, *, min_pixels: int = 1) -> GresCase:
    """Compare two boolean masks of the same shape; an expression for several objects has the union of their
    masks.

    A predicted mask of fewer than `min_pixels` pixels counts as empty; published evaluations of models that
    cannot declare a target absent remove small specks in this way. ValueError if shapes differ or a mask is
    not bool.
    """
    if np.count_nonzero(predicted) < min_pixels:
        predicted = np.zeros_like(predicted)
    overlap = measure_overlap(predicted, target)
    return GresCase(overlap, has_target=bool(target.any()), has_prediction=bool(predicted.any()))


def no_target_accuracy(cases: Sequence[GresCase]) -> float:
    """N-acc: of the cases without a target, the share for which nothing was predicted.

    ValueError without such a case. Give `bootstrap` only such cases, so that every sample has some.
    """
    rejected = [not case.has_prediction for case in cases if not case.has_target]
    return mean(rejected, "no_target_accuracy needs at least one case without a target")


def target_accuracy(cases: Sequence[GresCase]) -> float:
    """T-acc: of the cases with a target, the share for which something was predicted, right or wrong.

    ValueError without such a case. Give `bootstrap` only such cases, so that every sample has some.
    """
    accepted = [case.has_prediction for case in cases if case.has_target]
    return mean(accepted, "target_accuracy needs at least one case with a target")
