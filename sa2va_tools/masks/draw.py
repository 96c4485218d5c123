"""Masks drawn over a frame: translucent fill, two-tone outline, numbered badge.

Takes decoded masks and RGB pixels; knows nothing of handles, labels or video files. Every outline has a dark
and a light line, so that one of them stands out from any background.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.masks.palette import BLACK, Rgb, draw_badge, lighten, measure_badge_wh, pick_color
from sa2va_tools.run import Run, raise_if_cancelled

NumberedMask = tuple[int, NDArray[np.bool_]]
"""Number of the object in the picture (1, 2, …) and its mask (h, w), bool."""

_MIN_BADGE_PX = 19
_THICKNESS_SIDE = 200  # the place of a badge is searched on a copy of the mask no larger than this


def draw_masks(
    rgb: NDArray[np.uint8],
    objects: Sequence[NumberedMask],
    *,
    opacity: float = 0.4,
    badges: bool = True,
    run: Run | None = None,
) -> NDArray[np.uint8]:
    """A copy of `rgb` (h, w, 3) with each mask filled, outlined and numbered, in the given order.

    Empty masks leave no trace. Raises ValueError if a mask's shape differs from the frame's, CancelledError.
    """
    picture = rgb.copy(order="C")
    height, width = picture.shape[:2]
    for number, mask_hw in objects:
        if mask_hw.shape != (height, width):
            raise ValueError(f"mask {number}: expected shape {(height, width)}, got {mask_hw.shape}")
    badge_px = max(_MIN_BADGE_PX, round(min(height, width) / 22))
    line_px = max(1, round(min(height, width) / 400))
    # Badges come last, so that no object hides another's number.
    places = []
    for number, mask_hw in objects:
        raise_if_cancelled(run)
        places.append((number, _draw_one(picture, number, mask_hw, opacity=opacity, line_px=line_px)))
    if badges:
        taken: list[_Box] = []
        for number, place in places:
            if place is not None:
                taken.append(_place_badge(picture, number, place, badge_px=badge_px, taken=taken))
    return picture


_Box = tuple[int, int, int, int]
_Place = tuple[_Box, tuple[int, int], float]
"""The box around a mask, its thickest point, and the radius of the largest disc around that point."""


def _draw_one(
    picture: NDArray[np.uint8], number: int, mask_hw: NDArray[np.bool_], *, opacity: float, line_px: int
) -> _Place | None:
    """Fill and outline one mask in place. Returns where its badge may go; None for an empty mask."""
    pixels = _to_bytes(mask_hw)
    x, y, width, height = cv2.boundingRect(pixels)
    if width == 0:
        return None
    color = pick_color(number)
    inside = pixels[y : y + height, x : x + width]
    region = picture[y : y + height, x : x + width]
    cv2.copyTo(cv2.LUT(region, _make_tint_table(color, opacity)), inside, region)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(picture, contours, -1, BLACK, line_px * 2 + 1, offset=(x, y))
    cv2.drawContours(picture, contours, -1, lighten(color, 0.7), line_px, offset=(x, y))
    (center_x, center_y), radius = _find_thickest_point(inside)
    return (x, y, x + width, y + height), (x + center_x, y + center_y), radius


@lru_cache(maxsize=64)
def _make_tint_table(color: Rgb, opacity: float) -> NDArray[np.uint8]:
    """The new value of each value of each channel under the fill, (256, 1, 3): one lookup per pixel."""
    values = np.arange(256, dtype=np.float64)[:, None, None] * (1 - opacity)
    return np.rint(values + np.asarray(color) * opacity).astype(np.uint8)


def _to_bytes(mask_hw: NDArray[Any]) -> NDArray[np.uint8]:
    contiguous = np.ascontiguousarray(mask_hw)
    return contiguous.view(np.uint8) if contiguous.dtype == np.bool_ else (contiguous != 0).astype(np.uint8)


def _find_thickest_point(inside: NDArray[np.uint8]) -> tuple[tuple[int, int], float]:
    """The centre and radius of a largest disc inside the mask, found on a small copy."""
    height, width = inside.shape
    step = max(1, max(height, width) // _THICKNESS_SIDE)
    small = np.pad(inside[::step, ::step], 1)
    distance = cv2.distanceTransform(small, cv2.DIST_L2, 3)
    _, radius, _, (x, y) = cv2.minMaxLoc(distance)
    return (min((x - 1) * step, width - 1), min((y - 1) * step, height - 1)), radius * step


def _place_badge(
    picture: NDArray[np.uint8], number: int, place: _Place, *, badge_px: int, taken: Sequence[_Box]
) -> _Box:
    """Draw the badge inside a thick mask or next to a thin one, and not over the `taken` boxes."""
    height, width = picture.shape[:2]
    (x0, y0, x1, y1), (x, y), radius = place
    badge_w, badge_h = measure_badge_wh(number, badge_px)
    middle = (x - badge_w // 2, y - badge_h // 2)
    outside = [
        (x - badge_w // 2, y0 - badge_h - 2),
        (x1 + 2, y - badge_h // 2),
        (x - badge_w // 2, y1 + 2),
        (x0 - badge_w - 2, y - badge_h // 2),
    ]
    # For two equal masks the second badge goes next to the first.
    next_to_middle = [
        (middle[0] + step * (badge_w + 2), middle[1] + row * (badge_h + 2))
        for row in (0, 1, -1)
        for step in (1, -1, 2, -2, 3, -3)
    ]
    inside_first = radius >= badge_px * 0.8
    wanted = [middle, *outside] if inside_first else [*outside, middle]
    boxes = [
        (left, top, left + badge_w, top + badge_h)
        for left, top in (*wanted, *next_to_middle)
        if 0 <= left <= width - badge_w and 0 <= top <= height - badge_h
    ]
    left = min(max(middle[0], 0), max(width - badge_w, 0))
    top = min(max(middle[1], 0), max(height - badge_h, 0))
    boxes.append((left, top, left + badge_w, top + badge_h))
    free = [box for box in boxes if not any(_overlaps(box, other) for other in taken)]
    chosen = (free or boxes)[0]
    draw_badge(picture, number, chosen[:2], badge_px)
    return chosen


def _overlaps(first: _Box, second: _Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
