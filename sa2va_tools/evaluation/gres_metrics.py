"""Scores where an expression may mean nothing at all: gIoU, N-acc and T-acc as gRefCOCO (GRES) defines them.

cIoU there is `metrics.cumulative_iou` of the cases' overlaps. It knows nothing of models; a prediction is
taken to deny the target when its mask is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sa2va_tools.evaluation.metrics import Mask, Overlap, overlap


@dataclass(frozen=True, slots=True)
class GresCase:
    """One expression: whether it means something, whether something was marked, and how well."""

    overlap: Overlap
    has_target: bool
    is_marked: bool

    @property
    def iou(self) -> float:
        """Without a target 1 if nothing was marked, else 0."""
        return self.overlap.iou


def gres_case(ours: Mask, theirs: Mask, *, smallest_pixels: int = 1) -> GresCase:
    """Of two boolean masks of one shape; an expression for several objects has the union of their masks.

    A mask of ours with fewer pixels than `smallest_pixels` is taken for none: published evaluations of models
    that cannot say "not there" clear specks so. ValueError for different shapes or another dtype than bool.
    """
    if np.count_nonzero(ours) < smallest_pixels:
        ours = np.zeros_like(ours)
    return GresCase(overlap(ours, theirs), bool(theirs.any()), bool(ours.any()))


def gres_iou(cases: Sequence[GresCase]) -> float:
    """gIoU: the mean of the cases' IoUs, no-target ones counting 1 or 0. ValueError without a case."""
    if not cases:
        raise ValueError("gres_iou needs at least one case")
    return float(np.mean([case.iou for case in cases]))


def no_target_accuracy(cases: Sequence[GresCase]) -> float:
    """N-acc: the share of no-target cases where nothing was marked.

    ValueError without a no-target case; a bootstrap is given those alone, so that every round has one.
    """
    empty = [case for case in cases if not case.has_target]
    if not empty:
        raise ValueError("no_target_accuracy needs at least one case without a target")
    return float(np.mean([not case.is_marked for case in empty]))


def target_accuracy(cases: Sequence[GresCase]) -> float:
    """T-acc: the share of cases with a target where something, right or wrong, was marked.

    ValueError without a case with a target; a bootstrap is given those alone, so that every round has one.
    """
    wanted = [case for case in cases if case.has_target]
    if not wanted:
        raise ValueError("target_accuracy needs at least one case with a target")
    return float(np.mean([case.is_marked for case in wanted]))
