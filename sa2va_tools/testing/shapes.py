"""The rectangles that the fake engine takes for objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from sa2va_tools.engine.regions import Region
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle as rles_of
from sa2va_tools.masks.rle import Rle

ShapeAt = Callable[[int], Rle]
"""The mask at a source frame."""


def drifting(label: str, size_wh: tuple[int, int]) -> ShapeAt:
    """A rectangle whose place and size follow from the words; it moves a pixel per frame."""
    width, height = size_wh
    seed = hashlib.sha256(label.encode()).digest()
    side = max(4, min(width, height) // 3)
    x0, y0 = seed[0] % max(1, width - side), seed[1] % max(1, height - side)

    def shape_at(frame: int) -> Rle:
        x = (x0 + frame) % max(1, width - side)
        return _rectangle((x, y0, x + side, y0 + side), size_wh)

    return shape_at


def still(rle: Rle) -> ShapeAt:
    """The same mask on every frame."""
    return lambda _: rle


def _rectangle(box_xyxy: tuple[int, int, int, int], size_wh: tuple[int, int]) -> Rle:
    width, height = size_wh
    x0, y0, x1, y1 = box_xyxy
    mask_hw = np.zeros((height, width), dtype=np.bool_)
    mask_hw[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    if not mask_hw.any():
        raise RequestError(
            f"The region {list(box_xyxy)} covers no pixel of the {width}×{height} media.",
            hint="Give pixels of the source, x to the right and y down.",
        )
    return rles_of.encode(mask_hw)


def drawn_region(region: Region, size_wh: tuple[int, int]) -> Rle:
    """The mask of a region that is not a handle; points become the rectangle around them."""
    width, height = size_wh
    sx, sy = (width, height) if region.unit == "fraction" else (1, 1)
    if region.rle is not None:
        given = {"size": list(region.rle.size), "counts": region.rle.counts}
        return rles_of.validate(given, size_wh=size_wh)
    if region.polygon_xy is not None:
        return rles_of.from_polygon([(x * sx, y * sy) for x, y in region.polygon_xy], size_wh)
    if region.box_xyxy is not None:
        x0, y0, x1, y1 = region.box_xyxy
    else:
        xs, ys = zip(*(region.points_xy or ()), strict=True)
        x0, y0, x1, y1 = min(xs), min(ys), max(xs) + 4 / sx, max(ys) + 4 / sy
    return _rectangle((int(x0 * sx), int(y0 * sy), int(x1 * sx), int(y1 * sy)), size_wh)
