"""Polygons back to masks, to check that they outline exactly the same pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.masks.polygons import Polygon

# Rasterising at twice the size puts pixel edges on even and pixel middles on odd coordinates. The border that
# cv2.fillPoly draws in addition then never covers the middle of a pixel outside an unsimplified outline.
_RASTER = 2


def fill_polygons(polygons: Sequence[Polygon], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (h, w) of these polygons: the inside of each without its holes (even-odd rule). Points outside
    the picture are allowed."""
    width, height = size_wh
    covered = np.zeros((height, width), dtype=np.bool_)
    for polygon in polygons:
        rings = [np.asarray(ring, dtype=np.float64) for ring in (polygon.exterior_xy, *polygon.holes_xy)]
        # A mask may have thousands of small parts, so each is drawn on a canvas of its own size.
        x0, y0 = np.clip(np.floor(rings[0].min(axis=0)).astype(int), 0, (width, height))
        x1, y1 = np.clip(np.ceil(rings[0].max(axis=0)).astype(int), 0, (width, height))
        canvas = np.zeros((_RASTER * (y1 - y0) + 1, _RASTER * (x1 - x0) + 1), dtype=np.uint8)
        local = [np.rint((ring - (x0, y0)) * _RASTER).astype(np.int32) for ring in rings]
        cv2.fillPoly(canvas, local, 1)
        covered[y0:y1, x0:x1] |= canvas[1::_RASTER, 1::_RASTER].astype(np.bool_)
    return covered
