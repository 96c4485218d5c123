"""Scores against small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sa2va_tools.evaluation.metrics import (
    Overlap,
    bootstrap,
    cumulative_iou,
    mean,
    mean_iou,
    overlap,
    precision_at,
    region_similarity,
    share_found,
)


def square(x0: int, x1: int) -> np.ndarray:
    mask = np.zeros((4, 8), bool)
    mask[:, x0:x1] = True
    return mask


def test_overlap_counts_pixels():
    assert overlap(square(0, 4), square(2, 6)) == Overlap(8, 24)
    assert overlap(square(0, 4), square(2, 6)).iou == pytest.approx(1 / 3)


def test_two_empty_masks_agree():
    assert overlap(square(0, 0), square(0, 0)).iou == 1.0


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        overlap(square(0, 1), np.zeros((2, 2), bool))


def test_ciou_weighs_by_size_and_giou_does_not():
    cases = [Overlap(90, 100), Overlap(0, 10)]
    assert cumulative_iou(cases) == pytest.approx(90 / 110)
    assert mean_iou(cases) == pytest.approx(0.45)


def test_precision_is_the_share_over_the_threshold():
    cases = [Overlap(6, 10), Overlap(5, 10), Overlap(9, 10)]
    assert precision_at(cases, 0.5) == pytest.approx(2 / 3)


def test_j_is_the_mean_over_frames_and_absence_counts():
    ours = np.stack([square(0, 4), square(0, 0), square(1, 2)])
    theirs = np.stack([square(0, 4), square(0, 0), square(0, 0)])
    assert region_similarity(ours, theirs) == pytest.approx(2 / 3)


@pytest.mark.parametrize("shape", [(0, 4, 8), (2, 4, 8)])
def test_j_refuses_clips_without_frames_or_of_other_length(shape):
    with pytest.raises(ValueError, match="clips"):
        region_similarity(np.zeros(shape, bool), np.zeros((0, 4, 8), bool))


def test_no_case_is_no_score():
    for score in (mean_iou, lambda cases: precision_at(cases, 0.5), lambda cases: bootstrap(cases, mean)):
        with pytest.raises(ValueError, match="at least one"):
            score([])


def test_the_interval_holds_the_score_and_narrows_with_cases():
    rng = np.random.default_rng(1)
    few = bootstrap(rng.random(20).tolist(), mean)
    many = bootstrap(rng.random(2000).tolist(), mean)
    for interval in (few, many):
        assert interval.low < interval.value < interval.high
    assert many.high - many.low < (few.high - few.low) / 4
    assert (few.count, many.count) == (20, 2000)


def test_the_interval_is_the_same_every_time():
    assert bootstrap([0.1, 0.5, 0.9], mean) == bootstrap([0.1, 0.5, 0.9], mean)


def test_found_phrases_are_counted_as_a_bag():
    assert share_found(["a", "b"], ["b", "a"]) == 1.0
    assert share_found(["a", "a"], ["a", "b"]) == pytest.approx(0.5)
    assert share_found(["a"], ["a", "b", "c"]) == pytest.approx(0.5)
    assert share_found([], []) == 1.0
    assert share_found([], ["a"]) == 0.0
