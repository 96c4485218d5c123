"""The mask that is returned: its threshold, and what smoothing does and never does."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sa2va_tools.errors import RequestError
from sa2va_tools.model.output import MaskOptions
from sa2va_tools.model.sam2.modules import NO_OBJECT_LOGIT
from sa2va_tools.model.tracking.mask_output import (
    REACH_CELLS,
    SPECK_CELLS,
    SPECK_SHARE,
    enlarge_logits,
    make_mask,
)

GRID = 32
IMAGE_SIZE = 4 * GRID
SIZE_HW = (90, 160)  # cells of 5 × 2.8 pixels
INPUT_PIXEL_CELLS = GRID / IMAGE_SIZE


def _disc(radius: float = 8, *, noise: float = 0.0) -> np.ndarray:
    """Logits of a disc in the middle of the grid: the distance to its edge."""
    y, x = np.mgrid[:GRID, :GRID] + 0.5
    distance = radius - np.hypot(x - GRID / 2, y - GRID / 2)
    return (distance + np.random.default_rng(5).normal(0, noise, distance.shape)).astype(np.float32)


def _random_logits(seed: int, blur_cells: float = 1.0) -> np.ndarray:
    """Blotches, with thin bridges, specks and holes."""
    noise = np.random.default_rng(seed).normal(0, 9, (GRID, GRID)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), blur_cells)


def _mask(low: np.ndarray, size_hw=SIZE_HW, *, threshold: float = 0.5, smooth: bool = True) -> np.ndarray:
    return make_mask(low, IMAGE_SIZE, size_hw, MaskOptions(threshold=threshold, smooth=smooth))[0]


def _both(low: np.ndarray, size_hw=SIZE_HW, **options) -> tuple[np.ndarray, np.ndarray]:
    """The mask before and after smoothing."""
    return _mask(low, size_hw, smooth=False, **options), _mask(low, size_hw, **options)


def _areas(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Pixels of each piece."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    return stats[1:, cv2.CC_STAT_AREA]


def _outline_length(mask: np.ndarray) -> float:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return sum(cv2.arcLength(contour, True) for contour in contours)


# ---- threshold ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_hw", [(90, 160), (1080, 1920), (64, 48), (333, 1), (1, 77)])
def test_logits_are_enlarged_as_torch_does_it_in_two_steps(size_hw):
    low = _disc(noise=1.0)
    theirs = torch.from_numpy(low)[None, None]
    ours = enlarge_logits(low, IMAGE_SIZE, size_hw)
    for size, each in zip(((IMAGE_SIZE, IMAGE_SIZE), size_hw), ours, strict=True):
        theirs = F.interpolate(theirs, size=size, mode="bilinear", align_corners=False)
        expected = theirs[0, 0].numpy()
        np.testing.assert_allclose(each, expected, atol=1e-3)
        certain = np.abs(expected) > 1e-3
        assert certain.mean() > 0.99
        assert np.array_equal(each[certain] > 0, expected[certain] > 0)


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.5, 0.7, 0.99])
def test_a_threshold_cuts_the_probability(threshold):
    low = _disc(noise=1.0)
    mask, score = make_mask(low, IMAGE_SIZE, SIZE_HW, MaskOptions(threshold=threshold))
    logits = enlarge_logits(low, IMAGE_SIZE, SIZE_HW)[1].astype(np.float64)
    probability = 1 / (1 + np.exp(-logits))
    certain = np.abs(probability - threshold) > 1e-7  # logits are compared in float32
    assert certain.mean() > 0.99
    assert np.array_equal(mask[certain], probability[certain] > threshold)
    assert score == pytest.approx(probability[mask].mean(), abs=1e-5) and score > threshold


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 1.5, float("nan"), float("inf"), "0.5"])
def test_an_impossible_threshold_is_refused_with_a_next_step(threshold):
    with pytest.raises(RequestError, match="between 0 and 1") as caught:
        MaskOptions(threshold=threshold)
    assert "0.5" in caught.value.hint


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("threshold", [5e-324, 0.5, math.nextafter(1, 0)])
def test_extreme_thresholds_keep_absent_masks_empty_and_given_masks_whole(threshold, smooth):
    options = MaskOptions(threshold=threshold, smooth=smooth)
    absent = np.full((GRID, GRID), NO_OBJECT_LOGIT, np.float32)
    mask, score = make_mask(absent, IMAGE_SIZE, SIZE_HW, options)
    assert not mask.any() and score == 0
    given = np.full((GRID, GRID), 10, np.float32)
    assert make_mask(given, IMAGE_SIZE, SIZE_HW, options)[0].all()


# ---- smoothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(
    "size_hw",
    [(64, 64), (90, 160), (480, 854), (2160, 3840), (100, 2000), (2000, 100)],
    ids=lambda size_hw: f"{size_hw[1] / GRID:g}x{size_hw[0] / GRID:g} pixels a cell",
)
def test_smoothing_keeps_the_area_and_makes_outlines_shorter(size_hw, threshold):
    before, after = _both(_disc(noise=0.7), size_hw, threshold=threshold)
    assert after.sum() == pytest.approx(before.sum(), rel=0.03)
    assert _outline_length(after) < 0.95 * _outline_length(before)


@pytest.mark.parametrize("radius", [1.5, 2, 3, 4])
def test_small_round_objects_do_not_shrink(radius):
    before, after = _both(8 * _disc(radius), (320, 320))
    assert after.sum() == pytest.approx(before.sum(), rel=0.04)


def test_certain_objects_do_not_grow_at_the_cost_of_uncertain_ones():
    y, x = np.mgrid[:GRID, :GRID] + 0.5
    left, right = (5 - np.hypot(x - center, y - 16) for center in (8, 24))
    left = np.where(left > 0, 20 * left, 2 * left)
    right = np.where(right > 0, 2 * right, 20 * right)
    before, after = _both(np.where(x < 16, left, right).astype(np.float32), (320, 320))
    for side in (np.s_[:, :160], np.s_[:, 160:]):
        assert after[side].sum() == pytest.approx(before[side].sum(), rel=0.03)


def test_object_and_background_are_treated_alike():
    low = _disc(noise=0.3)
    swapped = _mask(-low)
    expected = ~_mask(low)
    assert np.mean(swapped != expected) < 1e-3


def test_the_steps_of_the_grid_become_even():
    """Along a slanted edge of certain logits the outline nearly follows the straight line."""
    y, x = np.mgrid[:GRID, :GRID] + 0.5
    low = np.where(y > 0.4 * x + 8, 8, -8).astype(np.float32)
    size_hw = (10 * GRID, 10 * GRID)
    before, after = _both(low, size_hw)
    rows, columns = (axis / 10 for axis in np.mgrid[5 : 10 * GRID, 5 : 10 * GRID])
    inner = np.s_[20:-20, 20:-20]

    def wrong(mask: np.ndarray) -> int:
        return int((mask[5:, 5:] != (rows > 0.4 * columns + 8))[inner].sum())

    assert wrong(after) < 0.7 * wrong(before)


def test_small_holes_are_filled_and_specks_dropped_large_ones_stay():
    low = np.where(_disc(12) > 0, 3.0, -3.0).astype(np.float32)
    low[15, 15] = -3.0  # a hole of one cell
    low[20:23, 18:21] = -3.0  # and one of nine
    low[2, 2] = 3.0
    low[27:30, 1:4] = 3.0
    before, after = _both(low)
    cell = SIZE_HW[0] * SIZE_HW[1] / GRID**2
    assert cell < SPECK_SHARE * before.sum() < 9 * cell
    assert len(_areas(before, 8)) == 3 and len(_areas(~before, 4)) == 3
    assert len(_areas(after, 8)) == 2 and len(_areas(~after, 4)) == 2
    rows = np.array([15.5, 21.5, 2.5, 28.5]) * SIZE_HW[0] / GRID
    columns = np.array([15.5, 19.5, 2.5, 2.5]) * SIZE_HW[1] / GRID
    at = rows.astype(int), columns.astype(int)
    assert before[at].tolist() == [False, False, True, True]
    assert after[at].tolist() == [True, False, False, True]


def test_the_people_of_a_crowd_are_no_specks():
    """Pieces above SPECK_CELLS stay, however large the whole is."""
    grid = 256
    low = np.full((grid, grid), -3.0, np.float32)
    low[10:, 40:] = 3.0
    low[100:105, 5:10] = 3.0
    low[20:22, 5:7] = 3.0
    mask, _ = make_mask(low, 4 * grid, (512, 512), MaskOptions(smooth=True))
    assert SPECK_SHARE * mask.sum() > 25 * 4 > SPECK_CELLS * 4
    assert mask[204, 14] and not mask[42, 12]


def test_a_small_gap_at_the_edge_of_the_frame_is_background():
    low = np.full((GRID, GRID), 3.0, np.float32)
    low[0, 0] = -3.0
    low[17, 14] = -3.0
    before, after = _both(low)
    assert not before[0, 0] and not after[0, 0]
    assert not before[49, 72] and after[49, 72]


def test_an_island_in_a_small_hole_and_a_hole_in_a_speck_leave_no_rest():
    grid = 128
    low = np.full((grid, grid), -3.0, np.float32)
    low[20:110, 40:120] = 3.0
    low[60:63, 60:65] = -3.0
    low[61, 61:64] = 3.0  # in the middle of the hole
    low[60:63, 10:15] = 3.0
    low[61, 11:14] = -3.0  # in the middle of the speck
    before, after = (
        make_mask(low, 4 * grid, (1024, 1024), MaskOptions(smooth=smooth))[0] for smooth in (False, True)
    )
    assert len(_areas(before, 8)) == 3 and len(_areas(~before, 4)) == 3
    assert len(_areas(after, 8)) == 1 and len(_areas(~after, 4)) == 1


@pytest.mark.parametrize("size_hw", [(90, 160), (720, 1280)])
def test_a_smoothed_mask_has_no_small_pieces_or_holes(size_hw):
    cell = size_hw[0] * size_hw[1] / GRID**2
    removed = 0
    for seed in range(20):
        before, after = _both(_random_logits(seed), size_hw)
        limit = 0.9 * min(SPECK_SHARE * after.sum(), SPECK_CELLS * cell)  # it changes with the area
        pieces = sorted(_areas(after, 8))
        background = _areas(np.pad(~after, 1, constant_values=True), 4)
        assert all(area > limit for area in (*pieces[:-1], *background))
        removed += bool(min(_areas(before, 8)) < limit)
    assert removed > 5


@pytest.mark.parametrize("blur_cells", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("repeats", [(1, 1), (4, 1), (1, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_no_outline_moves_farther_than_its_reach(seed, repeats, blur_cells):
    """In cells, which are not square where the picture is not."""
    down, across = repeats
    pixels = 16  # of a cell along its longer side
    before, after = _both(_random_logits(seed, blur_cells), (GRID * pixels // down, GRID * pixels // across))
    before, after = (mask.repeat(down, axis=0).repeat(across, axis=1) for mask in (before, after))
    distance = sum(
        cv2.distanceTransform(side.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for side in (before, ~before)
    )
    far = (before != after) & (distance - 0.5 > (REACH_CELLS + INPUT_PIXEL_CELLS) * pixels)
    # Farther out only whole holes and specks change, which are small.
    assert (before != after).any()
    assert _areas(far, 8).max(initial=0) <= SPECK_SHARE * max(before.sum(), after.sum())


@pytest.mark.parametrize("inverted", [False, True])
def test_a_blur_that_would_move_an_outline_far_is_held_at_its_reach(inverted):
    """Keeping the area, the certain disc would take the place of thin, uncertain stripes at its right."""
    y, x = np.mgrid[:GRID, :GRID]
    low = np.where(np.hypot(x - 11, y - 16) < 9, 1.0, -1e-3).astype(np.float32)
    low[:, 24:] = np.where(x[:, 24:] % 3 < 2, 1e-3, -1.0)
    pixels = 20
    before, after = _both(-low if inverted else low, (GRID * pixels, GRID * pixels))
    if inverted:
        before = ~before
        after = ~after
    left = np.s_[:, : 22 * pixels]
    distance = cv2.distanceTransform((~before).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) - 0.5
    moved = distance[left][after[left] & ~before[left]].max() / pixels
    assert REACH_CELLS - INPUT_PIXEL_CELLS < moved < REACH_CELLS + INPUT_PIXEL_CELLS


@pytest.mark.parametrize("size_hw", [(1080, 1920), (90, 160), (9, 16), (333, 1), (1, 77), (2, 3)])
def test_smoothing_never_empties_a_mask(size_hw):
    """Also where all of it is smaller than the blur, or the picture has fewer pixels than the grid cells."""
    cases = [_random_logits(seed, 0.3) - 8 for seed in range(60)]
    for row, column, level in [(0, 0, 0.4), (15, 15, 0.4), (16, 16, 3.0), (16, 15, 30.0), (31, 20, 3.0)]:
        low = np.full((GRID, GRID), -3.0, np.float32)
        low[row, column] = level
        cases.append(low)
    pairs = [_both(low, size_hw) for low in cases]
    assert [after.any() for _, after in pairs] == [before.any() for before, _ in pairs]
    assert any(before.any() for before, _ in pairs)


def test_of_many_specks_one_remains():
    low = np.full((GRID, GRID), -3.0, np.float32)
    low[2:30:2, 2:30:2] = 3.0
    before, after = _both(low, (320, 320))
    assert len(_areas(before, 8)) == 14**2 > 1 / SPECK_SHARE
    assert len(_areas(after, 8)) == 1


def test_smoothing_is_deterministic_and_leaves_the_logits_alone():
    low = _disc(noise=0.7)
    given = low.copy()
    for size_hw in ((20, 16), (90, 160), (360, 200)):
        assert np.array_equal(_mask(low, size_hw), _mask(low, size_hw))
    assert np.array_equal(low, given)
