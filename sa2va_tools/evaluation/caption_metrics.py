"""Scores of the masks of grounded captions (GCG, GranDf): mask gIoU, AP50 and recall, words aside.

Every picture is compared once (`compare_masks`); each score is a function of the pictures, so that
`metrics.bootstrap` can resample them. It knows nothing of models or phrases; phrases alone are scored by
`metrics.share_found`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sa2va_tools.evaluation.metrics import Mask, overlap

_RECALLS = np.linspace(0, 1, 101)
_MOST_MASKS = 100
"""COCO's recall levels, and how many masks of one picture it looks at."""


@dataclass(frozen=True, slots=True)
class GroundedPicture:
    """How the masks of one caption overlap with the true ones."""

    ious: tuple[tuple[float, ...], ...]
    """One row per mask of ours, one column per true one; 0 where either is empty, as in COCO."""
    scores: tuple[float, ...]
    """One per mask of ours, the surest highest."""
    truths: int


def compare_masks(ours_nhw: Mask, theirs_nhw: Mask, scores: Sequence[float] | None = None) -> GroundedPicture:
    """One picture's masks (n, height, width) against the true ones (m, height, width); n or m may be 0.

    Without scores all are equally sure, as in GLaMM's evaluation (score 1.0 for every mask of a caption).
    ValueError for different sizes, another dtype than bool or another number of scores than masks.
    """
    if ours_nhw.ndim != 3 or ours_nhw.shape[1:] != theirs_nhw.shape[1:]:
        raise ValueError(f"masks differ in height or width: {ours_nhw.shape}, {theirs_nhw.shape}")
    given = [1.0] * len(ours_nhw) if scores is None else [float(score) for score in scores]
    if len(given) != len(ours_nhw):
        raise ValueError(f"{len(given)} scores for {len(ours_nhw)} masks")
    ious = tuple(tuple(_iou(ours, theirs) for theirs in theirs_nhw) for ours in ours_nhw)
    return GroundedPicture(ious, tuple(given), len(theirs_nhw))


def mean_mask_iou(pictures: Sequence[GroundedPicture], *, count_missed: bool = False) -> float:
    """GCG's mask gIoU ("mIoU" in GLaMM): the mean over pictures of the mean IoU of paired masks.

    Pairs are one to one, the highest IoU of what is left first, as long as it is over 0; a picture without a
    pair counts 0. As published, true masks without a pair are left out of a picture's mean; `count_missed`
    has them count 0. A picture with no mask on either side, which GranDf does not have, counts 1.
    ValueError without a picture.
    """
    if not pictures:
        raise ValueError("mean_mask_iou needs at least one picture")
    return float(np.mean([_picture_iou(picture, count_missed) for picture in pictures]))


def mask_recall(pictures: Sequence[GroundedPicture], threshold: float = 0.5) -> float:
    """The share of all true masks whose pair (see `mean_mask_iou`) has an IoU of the threshold or more.

    GLaMM's recall also asks that the pair's phrases be alike (BERT embeddings, cosine of 0.5 or more). That
    part is left out, so this is an upper bound of it. ValueError without a true mask.
    """
    truths = sum(picture.truths for picture in pictures)
    if not truths:
        raise ValueError("mask_recall needs at least one true mask")
    return sum(iou >= threshold for picture in pictures for iou in _paired(picture)) / truths


def average_precision(pictures: Sequence[GroundedPicture], threshold: float = 0.5) -> float:
    """AP of masks of one class at one IoU, AP50 at the default: 101 levels of recall, 100 masks a picture.

    Equals COCOeval ("segm") of pycocotools where the pictures come in the order of their ids: masks of one
    score are ranked in the order given. ValueError without a true mask.
    """
    truths = sum(picture.truths for picture in pictures)
    if not truths:
        raise ValueError("average_precision needs at least one true mask")
    marked = [item for picture in pictures for item in _hits(picture, threshold)]
    if not marked:
        return 0.0
    scores, hits = (np.array(column) for column in zip(*marked, strict=True))
    found = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    # Precision at a recall is the best at this recall or any higher one; 0 where it is never reached.
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best[np.searchsorted(found / truths, _RECALLS)].mean())


def _iou(ours: Mask, theirs: Mask) -> float:
    found = overlap(ours, theirs)
    return found.iou if found.union else 0.0


def _picture_iou(picture: GroundedPicture, count_missed: bool) -> float:
    if not picture.truths and not picture.scores:
        return 1.0
    pairs = list(_paired(picture))
    return sum(pairs) / (picture.truths if count_missed else len(pairs)) if pairs else 0.0


def _paired(picture: GroundedPicture) -> Iterator[float]:
    """IoUs over 0 of pairs, one to one, the best first; of equals the one given first."""
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
    """(score, hit) of each mask, the surest first; each takes the free true mask that it overlaps most."""
    surest = sorted(range(len(picture.scores)), key=lambda i: -picture.scores[i])
    free = list(range(picture.truths))
    for row in surest[:_MOST_MASKS]:
        # Of equals COCO takes the last.
        taken = max(free, key=lambda column: (picture.ious[row][column], column), default=None)
        hit = taken is not None and picture.ious[row][taken] >= threshold
        if hit and taken is not None:
            free.remove(taken)
        yield picture.scores[row], hit
