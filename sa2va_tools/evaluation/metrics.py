"""Scores of masks and answers, in numpy: cIoU, gIoU, precision at a threshold, J, and intervals for them.

Definitions are those of the field: cIoU sums intersections and unions over all cases before dividing
(RefCOCO), gIoU is the mean of per-case IoUs (ReasonSeg), J is the mean IoU over the frames of a clip (DAVIS).
Boundaries and J&F are in `video_metrics`, grounded captions in `caption_metrics`, expressions without a
target in `gres_metrics`. It knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Case = TypeVar("Case")
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pixels in both masks, and in either.

    Its `iou` is that of `pycocotools.mask.iou`, save for two empty masks, which COCO gives 0.
    """

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """1.0 where both masks are empty: nothing was there and nothing was found."""
        return self.intersection / self.union if self.union else 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its bootstrap interval and the number of cases behind it."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] n={self.count}"


def overlap(ours: Mask, theirs: Mask, *, ignored: Mask | None = None) -> Overlap:
    """Of two boolean masks of one shape, any number of axes.

    Pixels of `ignored` count for neither (label 255 of ReasonSeg). ValueError for different shapes or another
    dtype than bool.
    """
    for mask in (ours, theirs) if ignored is None else (ours, theirs, ignored):
        if mask.shape != ours.shape:
            raise ValueError(f"masks differ in shape: {ours.shape} and {mask.shape}")
        if mask.dtype != np.bool_:
            raise ValueError(f"masks: expected bool, got {mask.dtype}")
    both, either = ours & theirs, ours | theirs
    if ignored is not None:
        both, either = both & ~ignored, either & ~ignored
    return Overlap(int(np.count_nonzero(both)), int(np.count_nonzero(either)))


def cumulative_iou(overlaps: Sequence[Overlap]) -> float:
    """cIoU: total intersection over total union; large objects count for more. ValueError without a case."""
    if not overlaps:
        raise ValueError("cumulative_iou needs at least one case")
    union = sum(o.union for o in overlaps)
    return sum(o.intersection for o in overlaps) / union if union else 1.0


def mean_iou(overlaps: Sequence[Overlap]) -> float:
    """gIoU: the mean of the cases' IoUs. ValueError without a case."""
    if not overlaps:
        raise ValueError("mean_iou needs at least one case")
    return float(np.mean([o.iou for o in overlaps]))


def precision_at(overlaps: Sequence[Overlap], threshold: float) -> float:
    """The share of cases whose IoU is over the threshold. ValueError without a case."""
    if not overlaps:
        raise ValueError("precision_at needs at least one case")
    return float(np.mean([o.iou > threshold for o in overlaps]))


def region_similarity(ours_thw: Mask, theirs_thw: Mask) -> float:
    """J of one object in one clip: the mean over frames of the IoU of (T, height, width) masks.

    A frame where the object is truly absent counts 1 if nothing was marked, else 0. ValueError for different
    shapes or no frame.
    """
    if ours_thw.shape != theirs_thw.shape or not len(ours_thw):
        raise ValueError(f"clips must be of one shape with a frame: {ours_thw.shape}, {theirs_thw.shape}")
    return float(np.mean([overlap(a, b).iou for a, b in zip(ours_thw, theirs_thw, strict=True)]))


def bootstrap(
    cases: Sequence[Case],
    score: Callable[[Sequence[Case]], float],
    *,
    rounds: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The score of all cases, and the interval that holds `level` of the scores of resampled cases."""
    if not cases:
        raise ValueError("bootstrap needs at least one case")
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(cases), (rounds, len(cases)))
    values = [score([cases[i] for i in row]) for row in picks]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(score(cases), float(low), float(high), len(cases))


def mean(values: Sequence[float]) -> float:
    """The mean of numbers or booleans, as a score for `bootstrap`."""
    return float(np.mean(values))


def share_found(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """F1 of two lists of phrases taken as bags: order does not matter, numbers of each do."""
    if not ours and not theirs:
        return 1.0
    remaining = list(theirs)
    hits = 0
    for phrase in ours:
        if phrase in remaining:
            remaining.remove(phrase)
            hits += 1
    return 2 * hits / (len(ours) + len(theirs))
