"""Scores of the masks of grounded captions (GCG, GranDf): mask gIoU, AP50 and recall, regardless of phrases.

Each picture is compared once (`compare_masks`); every score is a function of the compared pictures, so that
`metrics.bootstrap` can resample them. Phrases alone are scored by `metrics.phrase_f1`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sa2va_tools.evaluation.metrics import Mask, mean, measure_overlap

_RECALL_LEVELS = np.linspace(0, 1, 101)
_MAX_MASKS = 100
"""COCO's recall levels, and how many masks of one picture it looks at."""


@dataclass(frozen=True, slots=True)
class GroundedPicture:
    """How the masks of one caption overlap with the true masks."""

    ious: tuple[tuple[float, ...], ...]
    """One row per predicted mask, one column per true mask; 0 if either is empty, as in COCO."""
    scores: tuple[float, ...]
    """The confidence in each predicted mask."""
    targets: int
    """The number of true masks."""


def compare_masks(
    predicted_nhw: Mask, target_nhw: Mask, scores: Sequence[float] | None = None
) -> GroundedPicture:
    """Compare one picture's masks (n, height, width) with the true ones (m, height, width); n and m may be 0.

    Without scores, all masks are equally certain, as in GLaMM's evaluation (score 1.0 for every mask of a
    caption). ValueError if sizes differ, a mask is not bool, or there are not as many scores as masks.
    """
    if predicted_nhw.ndim != 3 or predicted_nhw.shape[1:] != target_nhw.shape[1:]:
        raise ValueError(f"masks differ in height or width: {predicted_nhw.shape}, {target_nhw.shape}")
    confidences = [1.0] * len(predicted_nhw) if scores is None else [float(score) for score in scores]
    if len(confidences) != len(predicted_nhw):
        raise ValueError(f"{len(confidences)} scores for {len(predicted_nhw)} masks")
    overlaps = [[measure_overlap(mask, target) for target in target_nhw] for mask in predicted_nhw]
    ious = tuple(tuple(each.iou if each.union else 0.0 for each in row) for row in overlaps)
    return GroundedPicture(ious, tuple(confidences), targets=len(target_nhw))


def mean_mask_iou(pictures: Sequence[GroundedPicture], *, count_missed: bool = False) -> float:
    """GCG's mask gIoU ("mIoU" in GLaMM): the mean over pictures of the mean IoU of matched masks.

    Masks are matched one to one, always the remaining pair with the highest IoU above 0; a picture without a
    match counts 0. As published, true masks without a match are left out of a picture's mean; with
    `count_missed` they count 0. A picture with no mask on either side, which GranDf does not contain, counts
    1. ValueError without a picture.
    """
    ious = [_picture_iou(picture, count_missed) for picture in pictures]
    return mean(ious, "mean_mask_iou needs at least one picture")


def mask_recall(pictures: Sequence[GroundedPicture], threshold: float = 0.5) -> float:
    """The share of all true masks that are matched (see `mean_mask_iou`) with at least this IoU.

    GLaMM's recall also requires that the phrases of a match are similar (BERT embeddings, cosine of at least
    0.5). That is left out here, so this is an upper bound of it. ValueError without a true mask.
    """
    targets = sum(picture.targets for picture in pictures)
    if not targets:
        raise ValueError("mask_recall needs at least one true mask")
    return sum(iou >= threshold for picture in pictures for iou in _match_ious(picture)) / targets


def average_precision(pictures: Sequence[GroundedPicture], threshold: float = 0.5) -> float:
    """AP of masks of a single class at one IoU threshold, AP50 by default: 101 recall levels, 100 masks per
    picture.

    Equals COCOeval ("segm") of pycocotools if the pictures are in the order of their ids; masks with equal
    scores are ranked in the order given. ValueError without a true mask.
    """
    targets = sum(picture.targets for picture in pictures)
    if not targets:
        raise ValueError("average_precision needs at least one true mask")
    ranked = [item for picture in pictures for item in _hits(picture, threshold)]
    if not ranked:
        return 0.0
    scores, hits = (np.array(column) for column in zip(*ranked, strict=True))
    true_positives = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = true_positives / np.arange(1, len(true_positives) + 1)
    # The precision at a recall level is the best at this or any higher recall; 0 if it is never reached.
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best[np.searchsorted(true_positives / targets, _RECALL_LEVELS)].mean())


def _picture_iou(picture: GroundedPicture, count_missed: bool) -> float:
    if not picture.targets and not picture.scores:
        return 1.0
    matches = list(_match_ious(picture))
    return sum(matches) / (picture.targets if count_missed else len(matches)) if matches else 0.0


def _match_ious(picture: GroundedPicture) -> Iterator[float]:
    """IoUs above 0 of masks matched one to one, the highest first; of equal ones the first in order."""
    cells = [
        (iou, row, column) for row, line in enumerate(picture.ious) for column, iou in enumerate(line) if iou
    ]
    rows: set[int] = set()
    columns: set[int] = set()
    for iou, row, column in sorted(cells, key=lambda cell: -cell[0]):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            yield iou


def _hits(picture: GroundedPicture, threshold: float) -> Iterator[tuple[float, bool]]:
    """(score, hit) of each mask, best first; each claims the free true mask that it overlaps most."""
    by_score = sorted(range(len(picture.scores)), key=lambda i: -picture.scores[i])
    free = list(range(picture.targets))
    for row in by_score[:_MAX_MASKS]:
        # Of equal overlaps COCO takes the last.
        claimed = max(free, key=lambda column: (picture.ious[row][column], column), default=None)
        hit = claimed is not None and picture.ious[row][claimed] >= threshold
        if claimed is not None and hit:
            free.remove(claimed)
        yield picture.scores[row], hit
