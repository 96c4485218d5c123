"""Outlines run along pixel edges, have holes, and give back the same mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from polygon_filling import fill_polygons

from sa2va_tools.masks import rle
from sa2va_tools.masks.polygons import Polygon, trace_polygons


def _ring(side: int = 120) -> np.ndarray:
    pixels = np.zeros((side, side), dtype=np.uint8)
    cv2.circle(pixels, (side // 2, side // 2), side // 3, 1, -1)
    cv2.circle(pixels, (side // 2, side // 2), side // 8, 0, -1)
    return pixels.astype(bool)


def test_a_square_with_a_hole_by_hand():
    mask_hw = np.zeros((12, 16), dtype=bool)
    mask_hw[2:8, 4:10] = True
    mask_hw[3:5, 5:8] = False
    (polygon,) = trace_polygons(mask_hw)
    assert set(polygon.exterior_xy) == {(4, 2), (10, 2), (10, 8), (4, 8)}
    (hole,) = polygon.holes_xy
    assert set(hole) == {(5, 3), (8, 3), (8, 5), (5, 5)}


def test_an_island_in_a_hole_is_a_separate_part():
    mask_hw = np.ones((9, 9), dtype=bool)
    mask_hw[2:7, 2:7] = False
    mask_hw[4, 4] = True
    outer, island = trace_polygons(mask_hw)
    assert len(outer.holes_xy) == 1
    assert set(island.exterior_xy) == {(4, 4), (5, 4), (5, 5), (4, 5)}
    assert np.array_equal(fill_polygons([outer, island], (9, 9)), mask_hw)


def test_any_mask_is_restored_exactly():
    random = np.random.default_rng(11)
    for _ in range(150):
        height, width = random.integers(1, 30, 2)
        mask_hw = random.random((height, width)) < random.random()
        assert np.array_equal(fill_polygons(trace_polygons(mask_hw), (width, height)), mask_hw)


@pytest.mark.parametrize("tolerance_px", [0.5, 1.0, 2.0])
def test_simplified_outlines_stay_within_the_tolerance(tolerance_px):
    mask_hw = _ring()
    (exact,) = trace_polygons(mask_hw)
    (simple,) = trace_polygons(mask_hw, tolerance_px=tolerance_px)
    assert len(simple.exterior_xy) < len(exact.exterior_xy)
    assert len(simple.holes_xy) == 1
    wrong = fill_polygons([simple], (120, 120)) != mask_hw
    # No wrong pixel lies farther from the mask's border than the tolerance and a pixel of rounding.
    reach = int(np.ceil(tolerance_px)) + 1
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    pixels = mask_hw.astype(np.uint8)
    near_border = cv2.dilate(pixels, kernel) != cv2.erode(pixels, kernel)
    assert wrong.any() or tolerance_px < 1
    assert not (wrong & ~near_border).any()


def test_a_tiny_part_survives_a_large_tolerance():
    mask_hw = np.zeros((30, 30), dtype=bool)
    mask_hw[5, 5] = True
    assert np.array_equal(fill_polygons(trace_polygons(mask_hw, tolerance_px=10), (30, 30)), mask_hw)


def test_coordinates_are_those_of_rle_polygons():
    mask_hw = np.zeros((12, 16), dtype=bool)
    mask_hw[2:8, 4:10] = True
    (polygon,) = trace_polygons(mask_hw)
    assert np.array_equal(rle.decode(rle.from_polygon(polygon.exterior_xy, (16, 12))), mask_hw)


def test_an_empty_mask_has_no_outline_and_outside_points_are_cut():
    assert trace_polygons(np.zeros((5, 5), dtype=bool)) == []
    around = Polygon(((-10.0, -10.0), (20.0, -10.0), (20.0, 20.0), (-10.0, 20.0)))
    assert fill_polygons([around], (5, 4)).all()
    with pytest.raises(ValueError, match="tolerance_px"):
        trace_polygons(np.ones((5, 5), dtype=bool), tolerance_px=-1)
