"""Masks as outlines with holes.

Coordinates are continuous, as for boxes: a set pixel (x, y) has the outline (x, y), (x+1, y), (x+1, y+1),
(x, y+1). Outlines run along the pixels' edges, so that an unsimplified outline gives exactly the same mask.
Knows nothing of tracks or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = tuple[tuple[float, float], ...]
"""A closed outline in (x, y); the first point is not repeated at the end."""

# Contours pass through the middles of border pixels. On a mask enlarged by three, those middles lie
# next to the edges of the original pixels, and rounding a third of them lands on the edges.
_ENLARGE = 3
_MIN_RING = 3


@dataclass(frozen=True, slots=True)
class Polygon:
    """One connected part of a mask (8-neighbourhood)."""

    exterior_xy: Ring
    holes_xy: tuple[Ring, ...] = ()


def trace_polygons(mask_hw: NDArray[np.bool_], *, tolerance_px: float = 0.0) -> list[Polygon]:
    """The parts of `mask_hw` (h, w), largest outline first; an empty list for an empty mask.

    With `tolerance_px` > 0, points are dropped as long as the outline moves by no more than that; parts and
    holes too small for it keep their full outline. Raises ValueError for a negative tolerance.
    """
    if tolerance_px < 0:
        raise ValueError(f"tolerance_px: expected ≥ 0, got {tolerance_px}")
    pixels = np.ascontiguousarray(mask_hw).astype(np.uint8)
    x0, y0, width, height = cv2.boundingRect(pixels)
    if width == 0:
        return []
    crop = np.kron(pixels[y0 : y0 + height, x0 : x0 + width], np.ones((_ENLARGE, _ENLARGE), np.uint8))
    contours, hierarchy = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_make_ring(contour, (x0, y0), tolerance_px) for contour in contours]
    holes: dict[int, list[Ring]] = {}
    for ring, (_, _, _, parent) in zip(rings, hierarchy[0], strict=True):
        holes.setdefault(int(parent), []).append(ring)
    outer = [index for index in range(len(rings)) if hierarchy[0][index][3] < 0]
    outer.sort(key=lambda index: -cv2.contourArea(contours[index]))
    return [Polygon(rings[index], tuple(holes.get(index, ()))) for index in outer]


def _make_ring(contour: NDArray[np.int32], origin_xy: tuple[int, int], tolerance_px: float) -> Ring:
    corners = _find_corners(np.rint((contour[:, 0, :] + 0.5) / _ENLARGE).astype(np.int32))
    if tolerance_px > 0:
        simple = cv2.approxPolyDP(corners[:, None, :], tolerance_px, True)[:, 0, :]
        corners = simple if len(simple) >= _MIN_RING else corners
    x0, y0 = origin_xy
    return tuple((float(x + x0), float(y + y0)) for x, y in corners)


def _find_corners(points: NDArray[np.int32]) -> NDArray[np.int32]:
    """Drop repeated points and points in the middle of a straight line."""
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    into = points - np.roll(points, 1, axis=0)
    out_of = np.roll(points, -1, axis=0) - points
    corners: NDArray[np.int32] = points[into[:, 0] * out_of[:, 1] != into[:, 1] * out_of[:, 0]]
    return corners
