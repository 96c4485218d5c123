"""J, F and J&F against values worked out by hand and against a slow reading of DAVIS' definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sa2va_tools.evaluation.video_metrics import (
    TrackScore,
    boundary_measure,
    boundary_similarity,
    track_quality,
)


def block(rows: slice, columns: slice, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


EMPTY = block(slice(0, 0), slice(0, 0))
FULL = block(slice(0, 40), slice(0, 60))


def slow_boundary(mask: np.ndarray) -> list[tuple[int, int]]:
    """Pixels unlike one of their neighbours to the east, south and south-east; there are none outside."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            beside = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(mask[v, u] != mask[y, x] for v, u in beside if v < height and u < width):
                found.append((y, x))
    return found


def slow_measure(ours: np.ndarray, theirs: np.ndarray, radius: int) -> float:
    mine, other = slow_boundary(ours), slow_boundary(theirs)

    def near(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        return sum(any(math.dist(p, q) <= radius for q in others) for p in some) / len(some)

    precision, recall = near(mine, other), near(other, mine)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_f_is_that_of_a_slow_reading_of_the_definition(seed: int):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(20, 40)), int(rng.integers(20, 60)))
    coarse = rng.random((2, 5, 6)) < 0.4
    ours, theirs = (np.kron(c, np.ones((8, 10), bool))[: shape[0], : shape[1]] for c in coarse)
    theirs = theirs ^ (rng.random(shape) < 0.01)
    for radius in (1, 3):
        expected = slow_measure(ours, theirs, radius)
        assert boundary_measure(ours, theirs, tolerance=radius) == pytest.approx(expected)
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
    # Boundary of one inner pixel at (y, x): (y-1, x-1), (y-1, x), (y, x-1), (y, x). The other pixel lies 3 to
    # the right and 3 down. Its nearest corner is 2 right, 2 down of ours: distance 2.83 > 2, within 3.
    # Within 2 no pixel matches. Within 3 ours (y, x) reaches theirs (y+2, x+2); ours (y-1, x) is at
    # (3, 2) → 3.6 from it: one of four on either side, so F = 1/4.
    ours, theirs = block(slice(9, 10), slice(9, 10)), block(slice(12, 13), slice(12, 13))
    assert boundary_measure(ours, theirs, tolerance=2) == 0.0
    assert boundary_measure(ours, theirs, tolerance=3) == pytest.approx(0.25)


def test_f_weighs_precision_against_recall():
    # Half-planes left of column 30, ours with a far block more. Boundary shared: column 29, 40 pixels. The
    # block of rows 10…13 and columns 50…53 has a ring of 5 × 5 cells (its own and one row and column before
    # them), less the 3 × 3 inside: 16. Precision 40/56, recall 1, F = 2 · 40 / (56 + 40) = 5/6.
    theirs = block(slice(0, 40), slice(0, 30))
    ours = theirs | block(slice(10, 14), slice(50, 54))
    assert boundary_measure(ours, theirs) == pytest.approx(5 / 6)
    assert boundary_measure(theirs, ours) == pytest.approx(5 / 6)


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
def test_single_pixels_at_the_frames_border_count(y: int, x: int):
    dot = block(slice(y, y + 1), slice(x, x + 1))
    far = block(slice(20, 21), slice(30, 31))
    assert boundary_measure(dot, dot) == 1.0
    assert boundary_measure(dot, far) == 0.0
    assert boundary_measure(dot, EMPTY) == 0.0


def test_f_of_a_clip_is_the_mean_over_all_frames():
    dot = block(slice(5, 6), slice(5, 6))
    ours, theirs = np.stack([dot, dot, EMPTY, EMPTY]), np.stack([dot, EMPTY, EMPTY, dot])
    assert boundary_similarity(ours, theirs) == pytest.approx(2 / 4)


def test_j_and_f_is_the_mean_of_both():
    # Frame 1 of two: 8 × 8 against its left half, J = 32/64, edges 4 apart, and 0.008 · 72.1 gives 1 pixel.
    # Our boundary: rows and columns 9…17, 9 × 9 less 7 × 7 = 32 cells. Theirs: columns 9…13, 9 × 5 less
    # 7 × 3 = 24 cells, of which column 13's rows 11…15 are more than 1 away from ours: recall 19/24.
    # Of ours, columns 15…17 of both rows (6) and column 17's 7 other rows are away: precision 19/32.
    # F = 2 · 19 / (24 + 32) = 19/28. Frame 2 is empty in both: J = F = 1.
    ours = np.stack([block(slice(10, 18), slice(10, 18)), EMPTY])
    theirs = np.stack([block(slice(10, 18), slice(10, 14)), EMPTY])
    score = track_quality(ours, theirs)
    assert score.j == pytest.approx((1 / 2 + 1) / 2)
    assert score.f == pytest.approx((19 / 28 + 1) / 2)
    assert score.j_and_f == pytest.approx((score.j + score.f) / 2)
    assert TrackScore(0.5, 0.9).j_and_f == pytest.approx(0.7)


def test_first_and_last_frame_count_unless_left_out():
    dot = block(slice(5, 6), slice(5, 6))
    ours, theirs = np.stack([dot, dot, EMPTY]), np.stack([EMPTY, dot, dot])
    assert track_quality(ours, theirs) == TrackScore(pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert track_quality(ours, theirs, inner_frames_only=True) == TrackScore(1.0, 1.0)
    with pytest.raises(ValueError, match="frame"):
        track_quality(ours[:2], theirs[:2], inner_frames_only=True)


def test_masks_that_do_not_compare_are_refused():
    dots = np.zeros((2, 4, 8), bool)
    for score in (boundary_similarity, track_quality):
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
