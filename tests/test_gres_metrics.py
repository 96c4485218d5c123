"""gIoU, N-acc and T-acc of expressions that may refer to nothing, compared with cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sa2va_tools.evaluation.metrics import (
    Overlap,
    bootstrap,
    compare_expression,
    cumulative_iou,
    mean_iou,
    no_target_accuracy,
    target_accuracy,
)


def columns(x0: int, x1: int) -> np.ndarray:
    mask = np.zeros((4, 8), bool)
    mask[:, x0:x1] = True
    return mask


NOTHING = columns(0, 0)
CASES = [
    compare_expression(NOTHING, NOTHING),  # rightly nothing: 1
    compare_expression(columns(0, 1), NOTHING),  # something for nothing: 0
    compare_expression(columns(0, 4), columns(2, 6)),  # 8 of 24 pixels: 1/3
    compare_expression(columns(0, 2), columns(0, 2)),  # 1
    compare_expression(NOTHING, columns(0, 2)),  # wrongly nothing: 0
]


def test_a_case_without_a_target_counts_one_if_nothing_was_predicted():
    assert [case.overlap.iou for case in CASES] == pytest.approx([1, 0, 1 / 3, 1, 0])
    assert mean_iou([case.overlap for case in CASES]) == pytest.approx((1 + 1 / 3 + 1) / 5)


def test_each_accuracy_is_a_share_of_its_own_cases():
    assert no_target_accuracy(CASES) == pytest.approx(1 / 2)
    assert target_accuracy(CASES) == pytest.approx(2 / 3)  # a wrong mask counts, too


def test_a_mask_without_a_target_lowers_ciou():
    # Intersections 0 + 0 + 8 + 8 + 0, unions 0 + 4 + 24 + 8 + 8.
    assert cumulative_iou([case.overlap for case in CASES]) == pytest.approx(16 / 44)


def test_small_specks_can_count_as_nothing():
    speck = columns(0, 1)  # 4 pixels
    kept, cleared = (compare_expression(speck, NOTHING, min_pixels=n) for n in (4, 5))
    assert (kept.overlap.iou, kept.has_prediction) == (0.0, True)
    assert (cleared.overlap.iou, cleared.has_prediction) == (1.0, False)
    lost = compare_expression(speck, columns(0, 2), min_pixels=5)
    assert (lost.overlap, lost.has_target, lost.has_prediction) == (Overlap(0, 8), True, False)


def test_scores_need_a_case_of_their_kind():
    with_target = [case for case in CASES if case.has_target]
    without = [case for case in CASES if not case.has_target]
    for score, cases in ((mean_iou, []), (no_target_accuracy, with_target), (target_accuracy, without)):
        with pytest.raises(ValueError, match="at least one"):
            score(cases)
    assert bootstrap(without, no_target_accuracy).value == 0.5


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        compare_expression(NOTHING, NOTHING[:2])
    with pytest.raises(ValueError, match="shape"):
        compare_expression(np.ones((2, 2), bool), NOTHING)
