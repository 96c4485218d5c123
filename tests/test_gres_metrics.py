"""gIoU, N-acc and T-acc of expressions that may mean nothing, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sa2va_tools.evaluation.gres_metrics import gres_case, gres_iou, no_target_accuracy, target_accuracy
from sa2va_tools.evaluation.metrics import Overlap, bootstrap, cumulative_iou


def columns(x0: int, x1: int) -> np.ndarray:
    mask = np.zeros((4, 8), bool)
    mask[:, x0:x1] = True
    return mask


NOTHING = columns(0, 0)
CASES = [
    gres_case(NOTHING, NOTHING),  # rightly denied: 1
    gres_case(columns(0, 1), NOTHING),  # marked for nothing: 0
    gres_case(columns(0, 4), columns(2, 6)),  # 8 of 24 pixels: 1/3
    gres_case(columns(0, 2), columns(0, 2)),  # 1
    gres_case(NOTHING, columns(0, 2)),  # denied wrongly: 0
]


def test_a_case_without_a_target_counts_one_if_nothing_was_marked():
    assert [case.iou for case in CASES] == pytest.approx([1, 0, 1 / 3, 1, 0])
    assert gres_iou(CASES) == pytest.approx((1 + 1 / 3 + 1) / 5)


def test_accuracies_are_shares_of_their_own_kind():
    assert no_target_accuracy(CASES) == pytest.approx(1 / 2)
    assert target_accuracy(CASES) == pytest.approx(2 / 3)  # a wrong mask is a mask


def test_what_is_marked_for_nothing_weighs_on_ciou():
    # Intersections 0 + 0 + 8 + 8 + 0, unions 0 + 4 + 24 + 8 + 8.
    assert cumulative_iou([case.overlap for case in CASES]) == pytest.approx(16 / 44)


def test_specks_can_be_taken_for_nothing():
    speck = columns(0, 1)  # 4 pixels
    kept, cleared = (gres_case(speck, NOTHING, smallest_pixels=n) for n in (4, 5))
    assert (kept.iou, kept.is_marked) == (0.0, True)
    assert (cleared.iou, cleared.is_marked) == (1.0, False)
    lost = gres_case(speck, columns(0, 2), smallest_pixels=5)
    assert (lost.overlap, lost.has_target, lost.is_marked) == (Overlap(0, 8), True, False)


def test_scores_need_a_case_of_their_kind():
    with_target = [case for case in CASES if case.has_target]
    without = [case for case in CASES if not case.has_target]
    for score, cases in ((gres_iou, []), (no_target_accuracy, with_target), (target_accuracy, without)):
        with pytest.raises(ValueError, match="at least one"):
            score(cases)
    assert bootstrap(without, no_target_accuracy).value == 0.5


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        gres_case(NOTHING, NOTHING[:2])
    with pytest.raises(ValueError, match="shape"):
        gres_case(np.ones((2, 2), bool), NOTHING)
