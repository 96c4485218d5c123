"""The mask that leaves the model: its threshold, even edges, and what neither of them may do."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sa2va_tools.errors import RequestError
from sa2va_tools.model.finishing import REACH_CELLS, SPECK_SHARE, _blurred, finished, full_size, tidy
from sa2va_tools.model.grounding import NO_OBJECT_LOGIT
from sa2va_tools.model.output import MaskWishes

GRID = 32
SIZE_HW = (90, 160)  # cells of 5 × 2.8 pixels


def _full(low_hw: np.ndarray, size_hw=SIZE_HW) -> np.ndarray:
    return full_size(low_hw.astype(np.float32), 4 * GRID, size_hw)


def _disc(radius: float = 8, *, noise: float = 0.0) -> np.ndarray:
    """Logits of a disc in the middle of the grid, as a distance to its edge."""
    y, x = np.mgrid[:GRID, :GRID] + 0.5
    distance = radius - np.hypot(x - GRID / 2, y - GRID / 2)
    return distance + np.random.default_rng(5).normal(0, noise, distance.shape)


def _finish(full: np.ndarray, *, threshold: float = 0.5, smooth: bool = True) -> np.ndarray:
    return finished(full, threshold=threshold, smooth=smooth, grid_side=GRID)[0]


def _pieces(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8))[0] - 1


@pytest.mark.parametrize("size_hw", [(90, 160), (1080, 1920), (64, 48), (333, 1), (1, 77)])
def test_logits_are_enlarged_as_torch_does_it_in_two_steps(size_hw):
    low = _disc(noise=1.0).astype(np.float32)
    theirs = torch.from_numpy(low)[None, None]
    for size in ((4 * GRID, 4 * GRID), size_hw):
        theirs = F.interpolate(theirs, size=size, mode="bilinear", align_corners=False)
    theirs = theirs[0, 0].numpy()
    ours = _full(low, size_hw)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert np.mean((ours > 0) != (theirs > 0)) < 1e-4


def test_the_usual_mask_is_where_the_logit_is_positive():
    full = _full(_disc(noise=1.0))
    mask, inside = finished(full, threshold=0.5, smooth=False, grid_side=GRID)
    assert np.array_equal(mask, full > 0)
    assert inside == pytest.approx(float(torch.sigmoid(torch.from_numpy(full[full > 0])).mean()), abs=1e-6)


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.5, 0.7, 0.99])
def test_a_threshold_cuts_the_probability(threshold):
    full = _full(_disc())
    mask, inside = finished(full, threshold=threshold, smooth=False, grid_side=GRID)
    probability = 1 / (1 + np.exp(-full.astype(np.float64)))
    assert np.array_equal(mask, probability > threshold)
    assert inside == pytest.approx(probability[mask].mean(), abs=1e-5) and inside > threshold


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_what_is_no_probability_between_the_ends_is_refused_with_a_next_step(threshold):
    with pytest.raises(RequestError, match="between 0 and 1") as caught:
        MaskWishes(threshold=threshold)
    assert "0.5" in caught.value.hint


@pytest.mark.parametrize("smooth", [False, True])
def test_extreme_thresholds_leave_absent_masks_empty(smooth):
    absent = np.full(SIZE_HW, NO_OBJECT_LOGIT, np.float32)
    for threshold in (5e-324, 0.5, math.nextafter(1, 0)):
        mask, inside = finished(absent, threshold=threshold, smooth=smooth, grid_side=GRID)
        assert not mask.any() and inside == 0
    everywhere = np.full(SIZE_HW, -NO_OBJECT_LOGIT, np.float32)
    assert _finish(everywhere, smooth=smooth).all()


def test_smoothing_keeps_the_area_and_makes_outlines_shorter():
    full = _full(_disc(noise=0.7))
    before, after = _finish(full, smooth=False), _finish(full)
    assert after.sum() == pytest.approx(before.sum(), rel=0.02)

    def outline(mask: np.ndarray) -> float:
        found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        return sum(cv2.arcLength(piece, True) for piece in found)

    assert outline(after) < 0.95 * outline(before)


def test_small_holes_are_filled_and_specks_dropped_large_ones_stay():
    low = np.where(_disc(10) > 0, 3.0, -3.0)
    low[15:18, 15:18] = -3.0
    low[1:5, 1:5] = 3.0
    full = _full(low)
    full[30:32, 70:73] = -3.0
    full[80:82, 150:153] = 3.0
    before, after = _finish(full, smooth=False), _finish(full)
    assert SPECK_SHARE * before.sum() > 6
    assert not before[30:32, 70:73].any() and after[30:32, 70:73].all()
    assert before[80:82, 150:153].all() and not after[80:82, 150:153].any()
    assert not after[45:47, 81:84].any() and (_pieces(before), _pieces(after)) == (3, 2)


def test_a_hole_at_the_edge_of_the_frame_is_background():
    low = np.full((GRID, GRID), 3.0)
    full = _full(low)
    full[:2, :2] = -3.0
    full[50:52, 70:72] = -3.0
    after = _finish(full)
    assert after[50:52, 70:72].all() and not after[0, 0]


@pytest.mark.parametrize("seed", range(6))
def test_no_outline_moves_farther_than_its_reach(seed):
    rng = np.random.default_rng(seed)
    low = cv2.GaussianBlur(rng.normal(0, 9, (GRID, GRID)), (0, 0), 2.0)
    full = _full(low)
    before, after = _finish(full, smooth=False), _finish(full)
    assert before.any() and after.any()
    reach = [math.ceil(REACH_CELLS * side / GRID) for side in reversed(SIZE_HW)]
    ball = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach[0] + 1, 2 * reach[1] + 1))
    old = before.astype(np.uint8)
    near = cv2.dilate(old, ball) > cv2.erode(old, ball)
    # Beyond their reach only whole holes and specks change, which are small.
    far = (before != after) & ~near
    _, _, stats, _ = cv2.connectedComponentsWithStats(far.astype(np.uint8))
    assert all(stats[1:, cv2.CC_STAT_AREA] <= SPECK_SHARE * before.sum())


def _pushing(size_hw: tuple[int, int]) -> np.ndarray:
    """Logits whose blur would carry a sure disc's outline far out: it takes the place of thin, unsure stripes
    to its right."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    margin = np.full(size_hw, -1e-3, np.float32)
    margin[np.hypot(x - 0.35 * width, y - 0.5 * height) < 0.3 * height] = 1
    stripe, gap = round(width / 80), round(width / 27)
    margin[:, round(0.75 * width) :] = np.where(x[:, round(0.75 * width) :] % gap < stripe, 1e-3, -1)
    return margin


def _reaches(size_hw: tuple[int, int]) -> tuple[int, int]:
    return tuple(math.ceil(REACH_CELLS * side / GRID) for side in reversed(size_hw))


@pytest.mark.parametrize("inverted", [False, True])
def test_in_a_large_picture_outlines_move_as_far_as_their_reach_and_no_farther(inverted):
    size_hw = (1050, 1400)
    across, down = _reaches(size_hw)
    y, x = np.mgrid[-down : down + 1, -across : across + 1]

    def near(mask: np.ndarray, share: float) -> np.ndarray:
        ellipse = (x / across) ** 2 + (y / down) ** 2 <= share**2
        return cv2.dilate(mask.astype(np.uint8), ellipse.astype(np.uint8)) > 0

    margin = -_pushing(size_hw) if inverted else _pushing(size_hw)
    before = margin > 0
    after = tidy(margin, before, (size_hw[1] / GRID, size_hw[0] / GRID))
    changed = before != after
    assert not (changed & ~(near(before, 1) & near(~before, 1))).any()
    disc = (before != inverted) & (np.arange(size_hw[1]) < 0.7 * size_hw[1])
    assert changed[near(disc, 0.9) & ~disc].all()


def test_in_a_usual_picture_an_outline_is_held_by_one_ellipse():
    size_hw = (375, 500)
    across, down = _reaches(size_hw)
    margin = _pushing(size_hw)
    after = tidy(margin, margin > 0, (size_hw[1] / GRID, size_hw[0] / GRID))
    disc = (margin == 1).astype(np.uint8)
    ball = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * across + 1, 2 * down + 1))
    assert np.array_equal(after, cv2.dilate(disc, ball) > 0)


@pytest.mark.parametrize("spots", [1, 2, 40])
def test_a_mask_that_is_not_empty_stays_so(spots):
    """Also where all of it is smaller than the blur."""
    full = np.full(SIZE_HW, -30, np.float32)
    places = np.random.default_rng(spots).choice(full.size, spots, replace=False)
    full.reshape(-1)[places] = 0.01
    mask, inside = finished(full, threshold=0.5, smooth=True, grid_side=GRID)
    assert mask.any() and 0 < inside <= 1


def test_smoothing_is_deterministic_in_any_size():
    for size_hw in ((20, 16), (90, 160), (360, 200)):
        full = _full(_disc(noise=0.7), size_hw)
        assert np.array_equal(_finish(full), _finish(full.copy()))


def test_a_blur_on_a_coarser_grid_is_that_of_all_pixels():
    height, width, cell = 900, 1300, (150.0, 96.0)
    grid = np.random.default_rng(3).normal(0, 1, (9, 9)).astype(np.float32)
    values = np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR), -1, 1)
    whole = cv2.GaussianBlur(
        values, (0, 0), sigmaX=0.5 * cell[0], sigmaY=0.5 * cell[1], borderType=cv2.BORDER_REPLICATE
    )
    assert np.abs(_blurred(values, cell) - whole).max() < 0.03
