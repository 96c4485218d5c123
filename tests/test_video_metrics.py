"""J, F and J&F, compared with values worked out by hand and with a slow implementation of the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sa2va_tools.evaluation.video_metrics import (
    TrackScore,
    boundary_measure,
    boundary_similarity,
    score_track,
)


def block(rows: slice, columns: slice, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


EMPTY = block(slice(0, 0), slice(0, 0))
FULL = block(slice(0, 40), slice(0, 60))


def slow_boundary(mask: np.ndarray) -> list[tuple[int, int]]:
    """Pixels that differ from a neighbour to the east, south or south-east inside the frame."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(mask[v, u] != mask[y, x] for v, u in neighbours if v < height and u < width):
                found.append((y, x))
    return found


def slow_measure(predicted: np.ndarray, target: np.ndarray, radius: int) -> float:
    mine, other = slow_boundary(predicted), slow_boundary(target)

    def near(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        return sum(any(math.dist(p, q) <= radius for q in others) for p in some) / len(some)

    precision, recall = near(mine, other), near(other, mine)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_f_equals_a_slow_implementation(seed: int):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(20, 40)), int(rng.integers(20, 60)))
    coarse = rng.random((2, 5, 6)) < 0.4
    predicted, target = (np.kron(c, np.ones((8, 10), bool))[: shape[0], : shape[1]] for c in coarse)
    target = target ^ (rng.random(shape) < 0.01)
    for radius in (1, 3):
        expected = slow_measure(predicted, target, radius)
        assert boundary_measure(predicted, target, tolerance=radius) == pytest.approx(expected)
    assert 0 < expected < 1


def test_the_tolerance_is_a_share_of_the_diagonal_rounded_up():
    # Diagonal of 300 × 400: 500; 0.8 % of it: 4 pixels. A vertical edge moved by 4 is right, by 5 wrong.
    edge = {x: block(slice(0, 300), slice(0, x), (300, 400)) for x in (100, 104, 105)}
    assert boundary_measure(edge[100], edge[104]) == 1.0
    assert boundary_measure(edge[100], edge[105]) == 0.0
    # One column more: 0.8 % of 500.8 is 4.006, so 5 pixels.
    wide = {x: block(slice(0, 300), slice(0, x), (300, 401)) for x in (100, 105)}
    assert boundary_measure(wide[100], wide[105]) == 1.0


def test_the_tolerance_is_a_disk():
    # The boundary of one inner pixel at (y, x): (y-1, x-1), (y-1, x), (y, x-1), (y, x). The other pixel is 3
    # to the right and 3 down. Its nearest boundary pixel is 2 to the right of (y, x) and 2 down: 2.83 away.
    # So within 2 no pixel matches. Within 3, (y, x) reaches (y+2, x+2), but (y-1, x) is (3, 2) → 3.6 away
    # from it: one of four on either side, so F = 1/4.
    predicted, target = block(slice(9, 10), slice(9, 10)), block(slice(12, 13), slice(12, 13))
    assert boundary_measure(predicted, target, tolerance=2) == 0.0
    assert boundary_measure(predicted, target, tolerance=3) == pytest.approx(0.25)


def test_f_balances_precision_and_recall():
    # Half-planes left of column 30, and a distant block in the prediction. The shared boundary is column 29,
    # 40 pixels. That of the block (rows 10…13, columns 50…53) is a ring of 5 × 5 cells (its own, and one row
    # and column before them) without the 3 × 3 inside: 16. Precision 40/56, recall 1,
    # F = 2 · 40 / (56 + 40) = 5/6.
    target = block(slice(0, 40), slice(0, 30))
    predicted = target | block(slice(10, 14), slice(50, 54))
    assert boundary_measure(predicted, target) == pytest.approx(5 / 6)
    assert boundary_measure(target, predicted) == pytest.approx(5 / 6)


def test_masks_without_a_boundary():
    something = block(slice(5, 9), slice(5, 9))
    assert boundary_measure(EMPTY, EMPTY) == 1.0
    assert boundary_measure(EMPTY, something) == boundary_measure(something, EMPTY) == 0.0
    # A mask over the whole frame has no boundary either: in DAVIS' F it equals an empty one.
    assert boundary_measure(FULL, FULL) == boundary_measure(FULL, EMPTY) == 1.0
    assert boundary_measure(FULL, something) == 0.0


@pytest.mark.parametrize(
    ("y", "x"), [(0, 0), (0, 59), (39, 0), (39, 59), (0, 30), (39, 30), (20, 0), (20, 59)]
)
def test_single_pixels_at_the_border_of_the_frame_are_counted(y: int, x: int):
    dot = block(slice(y, y + 1), slice(x, x + 1))
    far = block(slice(20, 21), slice(30, 31))
    assert boundary_measure(dot, dot) == 1.0
    assert boundary_measure(dot, far) == 0.0
    assert boundary_measure(dot, EMPTY) == 0.0


def test_f_of_a_clip_is_the_mean_over_all_frames():
    dot = block(slice(5, 6), slice(5, 6))
    predicted, target = np.stack([dot, dot, EMPTY, EMPTY]), np.stack([dot, EMPTY, EMPTY, dot])
    assert boundary_similarity(predicted, target) == pytest.approx(2 / 4)


def test_j_and_f_is_the_mean_of_both():
    # Frame 1 of two: 8 × 8 against its left half, J = 32/64, edges 4 apart, and 0.008 · 72.1 gives 1 pixel.
    # The predicted boundary: rows and columns 9…17, 9 × 9 - 7 × 7 = 32 cells. The true one: columns 9…13,
    # 9 × 5 - 7 × 3 = 24 cells, of which rows 11…15 of column 13 are more than 1 away from the predicted one:
    # recall 19/24. Of the predicted one, columns 15…17 of both rows (6) and the other 7 rows of column 17 are
    # too far away: precision 19/32. F = 2 · 19 / (24 + 32) = 19/28. Frame 2 is empty in both: J = F = 1.
    predicted = np.stack([block(slice(10, 18), slice(10, 18)), EMPTY])
    target = np.stack([block(slice(10, 18), slice(10, 14)), EMPTY])
    score = score_track(predicted, target)
    assert score.j == pytest.approx((1 / 2 + 1) / 2)
    assert score.f == pytest.approx((19 / 28 + 1) / 2)
    assert score.j_and_f == pytest.approx((score.j + score.f) / 2)
    assert TrackScore(0.5, 0.9).j_and_f == pytest.approx(0.7)


def test_first_and_last_frame_count_unless_left_out():
    dot = block(slice(5, 6), slice(5, 6))
    predicted, target = np.stack([dot, dot, EMPTY]), np.stack([EMPTY, dot, dot])
    assert score_track(predicted, target) == TrackScore(pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert score_track(predicted, target, inner_frames_only=True) == TrackScore(1.0, 1.0)
    with pytest.raises(ValueError, match="frame"):
        score_track(predicted[:2], target[:2], inner_frames_only=True)


def test_masks_that_cannot_be_compared_are_refused():
    dots = np.zeros((2, 4, 8), bool)
    for score in (boundary_similarity, score_track):
        for other in (dots[:1], np.zeros((2, 8, 4), bool)):
            with pytest.raises(ValueError, match="shape"):
                score(dots, other)
        with pytest.raises(ValueError, match="frame"):
            score(dots[:0], dots[:0])
        with pytest.raises(ValueError, match="bool"):
            score(dots.astype(np.uint8), dots.astype(np.uint8))
    with pytest.raises(ValueError, match="shape"):
        boundary_measure(dots[0], dots[0, :2])
    with pytest.raises(ValueError, match="height, width"):
        boundary_measure(dots, dots)
    with pytest.raises(ValueError, match="tolerance"):
        boundary_measure(dots[0], dots[0], tolerance=-1)
