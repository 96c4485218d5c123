"""Scores, compared with small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from sa2va_tools.evaluation.metrics import (
    Overlap,
    bootstrap,
    cumulative_iou,
    mean,
    mean_iou,
    measure_overlap,
    phrase_f1,
    precision_at,
    region_similarity,
)
from sa2va_tools.masks.rle import encode


def square(x0: int, x1: int) -> np.ndarray:
    mask = np.zeros((4, 8), bool)
    mask[:, x0:x1] = True
    return mask


def test_the_overlap_counts_pixels():
    assert measure_overlap(square(0, 4), square(2, 6)) == Overlap(8, 24)
    assert measure_overlap(square(0, 4), square(2, 6)).iou == pytest.approx(1 / 3)


def test_two_empty_masks_agree():
    assert measure_overlap(square(0, 0), square(0, 0)).iou == 1.0


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        measure_overlap(square(0, 1), np.zeros((2, 2), bool))


def test_masks_of_numbers_are_refused():
    with pytest.raises(ValueError, match="bool"):
        measure_overlap(square(0, 4).astype(np.uint8) * 255, square(0, 4).astype(np.uint8))


def test_ignored_pixels_are_not_counted():
    # Columns 2 and 3 shared of 0 … 5; without 0 and 3: column 2 of 1, 2, 4 and 5, four pixels each.
    ignored = square(0, 1) | square(3, 4)
    assert measure_overlap(square(0, 4), square(2, 6), ignored=ignored) == Overlap(4, 16)
    with pytest.raises(ValueError, match="shape"):
        measure_overlap(square(0, 4), square(2, 6), ignored=np.zeros((2, 2), bool))


@pytest.mark.parametrize("seed", range(5))
def test_the_iou_equals_that_of_coco(seed: int):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 30, 2))
    predicted, target = rng.random((2, *shape)) < rng.random((2, 1, 1))
    predicted.flat[0] = True
    target.flat[-1] = True
    expected = coco.iou([encode(predicted)], [encode(target)], [0])[0, 0]
    assert measure_overlap(predicted, target).iou == pytest.approx(expected, abs=1e-12)


def test_single_pixels_at_the_border_are_counted():
    for y, x in ((0, 0), (0, 7), (3, 0), (3, 7)):
        dot = np.zeros((4, 8), bool)
        dot[y, x] = True
        assert measure_overlap(dot, dot) == Overlap(1, 1)
        assert measure_overlap(dot, square(0, 8)) == Overlap(1, 32)


def test_large_objects_count_more_in_ciou_but_not_in_giou():
    cases = [Overlap(90, 100), Overlap(0, 10)]
    assert cumulative_iou(cases) == pytest.approx(90 / 110)
    assert mean_iou(cases) == pytest.approx(0.45)


def test_precision_is_the_share_above_the_threshold():
    cases = [Overlap(6, 10), Overlap(5, 10), Overlap(9, 10)]
    assert precision_at(cases, 0.5) == pytest.approx(2 / 3)


def test_j_is_the_mean_over_all_frames_including_empty_ones():
    predicted = np.stack([square(0, 4), square(0, 0), square(1, 2)])
    target = np.stack([square(0, 4), square(0, 0), square(0, 0)])
    assert region_similarity(predicted, target) == pytest.approx(2 / 3)


@pytest.mark.parametrize("shape", [(0, 4, 8), (2, 4, 8)])
def test_j_refuses_clips_without_frames_or_of_different_length(shape):
    with pytest.raises(ValueError, match="clips"):
        region_similarity(np.zeros(shape, bool), np.zeros((0, 4, 8), bool))


def test_scores_need_a_case():
    for score in (
        cumulative_iou,
        mean_iou,
        lambda cases: precision_at(cases, 0.5),
        lambda cases: bootstrap(cases, mean),
    ):
        with pytest.raises(ValueError, match="at least one"):
            score([])


def test_the_interval_contains_the_score_and_narrows_with_more_cases():
    rng = np.random.default_rng(1)
    few = bootstrap(rng.random(20).tolist(), mean)
    many = bootstrap(rng.random(2000).tolist(), mean)
    for interval in (few, many):
        assert interval.low < interval.value < interval.high
    assert many.high - many.low < (few.high - few.low) / 4
    assert (few.count, many.count) == (20, 2000)


def test_the_interval_of_two_cases_by_hand():
    # Of 0 and 1, a round's mean is 0, 1/2 or 1 in a quarter, half and a quarter of rounds: the middle 95 %
    # reach from 0 to 1, the middle 40 % are all 1/2.
    wide, narrow = (bootstrap([0.0, 1.0], mean, rounds=2000, level=level) for level in (0.95, 0.4))
    assert (wide.value, wide.low, wide.high) == (0.5, 0.0, 1.0)
    assert (narrow.value, narrow.low, narrow.high) == (0.5, 0.5, 0.5)


def test_the_interval_of_a_share_is_binomial():
    # 100 cases, half right: standard error sqrt(1/4 / 100) = 0.05, so 0.5 ± 1.96 · 0.05.
    interval = bootstrap([0.0, 1.0] * 50, mean, rounds=2000)
    assert (interval.low, interval.high) == (pytest.approx(0.402, abs=0.02), pytest.approx(0.598, abs=0.02))


def test_the_interval_of_ciou_resamples_cases_not_pixels():
    # A round has only one of the two cases in a quarter of rounds each, so the interval spans both IoUs.
    interval = bootstrap([Overlap(90, 100), Overlap(0, 10)], cumulative_iou)
    assert (interval.low, interval.high) == (0.0, 0.9)
    assert interval.value == pytest.approx(90 / 110)


def test_the_interval_of_equal_cases_is_a_point():
    interval = bootstrap([Overlap(1, 4)] * 9, cumulative_iou)
    assert (interval.low, interval.value, interval.high) == (0.25, 0.25, 0.25)


def test_the_interval_is_deterministic():
    assert bootstrap([0.1, 0.5, 0.9], mean) == bootstrap([0.1, 0.5, 0.9], mean)


def test_phrases_are_compared_as_multisets():
    assert phrase_f1(["a", "b"], ["b", "a"]) == 1.0
    assert phrase_f1(["a", "a"], ["a", "b"]) == pytest.approx(0.5)
    assert phrase_f1(["a"], ["a", "b", "c"]) == pytest.approx(0.5)
    assert phrase_f1([], []) == 1.0
    assert phrase_f1([], ["a"]) == 0.0
