"""Outlines with holes, from a mask and back.

Coordinates are continuous, as for boxes: a set pixel (x, y) has the outline (x, y), (x+1, y),
(x+1, y+1), (x, y+1). Outlines run along the pixels' edges, so that without simplification a mask
comes back exactly. Knows nothing of tracks or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = tuple[tuple[float, float], ...]
"""A closed outline in (x, y); the first point is not repeated at the end."""

# Contours pass through the middles of border pixels. On a mask enlarged by three, those middles lie
# next to the edges of the original pixels, and rounding a third of them lands on the edges.
_ENLARGE = 3
# Rasterising at twice the size puts pixel edges on even and pixel middles on odd coordinates, so the
# border that cv2.fillPoly draws in addition never meets a sample of an unsimplified outline.
_RASTER = 2
_MIN_RING = 3


@dataclass(frozen=True, slots=True)
class Polygon:
    """One connected part (8-neighbourhood) of a mask."""

    exterior_xy: Ring
    holes_xy: tuple[Ring, ...] = ()


def polygons_of(mask_hw: NDArray[np.bool_], *, tolerance_px: float = 0.0) -> list[Polygon]:
    """The parts of `mask_hw` (h, w), largest outline first; empty for an empty mask.

    `tolerance_px` > 0 drops points as long as the outline moves by no more than that; parts and
    holes too small for it keep their full outline.
    """
    if tolerance_px < 0:
        raise ValueError(f"tolerance_px: expected ≥ 0, got {tolerance_px}")
    pixels = np.ascontiguousarray(mask_hw).astype(np.uint8)
    x0, y0, width, height = cv2.boundingRect(pixels)
    if width == 0:
        return []
    crop = np.kron(pixels[y0 : y0 + height, x0 : x0 + width], np.ones((_ENLARGE, _ENLARGE), np.uint8))
    contours, hierarchy = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_ring_of(contour, (x0, y0), tolerance_px) for contour in contours]
    holes: dict[int, list[Ring]] = {}
    for ring, (_, _, _, parent) in zip(rings, hierarchy[0], strict=True):
        holes.setdefault(int(parent), []).append(ring)
    outer = [index for index in range(len(rings)) if hierarchy[0][index][3] < 0]
    outer.sort(key=lambda index: -cv2.contourArea(contours[index]))
    return [Polygon(rings[index], tuple(holes.get(index, ()))) for index in outer]


def mask_of(polygons: Sequence[Polygon], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (h, w) that the polygons cover: each one's inside without its holes (even-odd)."""
    width, height = size_wh
    covered = np.zeros((height, width), dtype=np.bool_)
    for polygon in polygons:
        rings = [np.asarray(ring, dtype=np.float64) for ring in (polygon.exterior_xy, *polygon.holes_xy)]
        # Only the polygon's own rectangle is drawn: a mask may have thousands of small parts.
        x0, y0 = np.clip(np.floor(rings[0].min(axis=0)).astype(int), 0, (width, height))
        x1, y1 = np.clip(np.ceil(rings[0].max(axis=0)).astype(int), 0, (width, height))
        canvas = np.zeros((_RASTER * (y1 - y0) + 1, _RASTER * (x1 - x0) + 1), dtype=np.uint8)
        local = [np.rint((ring - (x0, y0)) * _RASTER).astype(np.int32) for ring in rings]
        cv2.fillPoly(canvas, local, 1)
        covered[y0:y1, x0:x1] |= canvas[1::_RASTER, 1::_RASTER].astype(np.bool_)
    return covered


def _ring_of(contour: NDArray[np.int32], origin_xy: tuple[int, int], tolerance_px: float) -> Ring:
    corners = _corners(np.rint((contour[:, 0, :] + 0.5) / _ENLARGE).astype(np.int32))
    if tolerance_px > 0:
        simple = cv2.approxPolyDP(corners[:, None, :], tolerance_px, True)[:, 0, :]
        corners = simple if len(simple) >= _MIN_RING else corners
    x0, y0 = origin_xy
    return tuple((float(x + x0), float(y + y0)) for x, y in corners)


def _corners(points: NDArray[np.int32]) -> NDArray[np.int32]:
    """Without repeated points and points in the middle of a straight line."""
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    into = points - np.roll(points, 1, axis=0)
    out_of = np.roll(points, -1, axis=0) - points
    corners: NDArray[np.int32] = points[into[:, 0] * out_of[:, 1] != into[:, 1] * out_of[:, 0]]
    return corners
