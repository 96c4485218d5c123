"""Generates small videos, and the rectangles that the fake engine reports as objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.masks import rle
from sa2va_tools.masks.rle import Rle
from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.model.output import PointPrompt

ShapeAt = Callable[[int], Rle]
"""The mask at a source frame."""
_POINT_MARGIN = 2


def synthetic_clip(
    path: Path, *, frames: int = 16, size_wh: tuple[int, int] = (96, 64), fps: Fraction = Fraction(10)
) -> Path:
    """Write a small H.264 clip of a red square that moves over grey, and return `path`."""
    width, height = size_wh
    side = min(width, height) // 4
    with VideoWriter(path, size_wh, fps, threads=1) as writer:
        for index in range(frames):
            frame = np.full((height, width, 3), 120, dtype=np.uint8)
            x = (2 * index) % (width - side)
            frame[side : 2 * side, x : x + side] = (220, 30, 30)
            writer.write(frame)
    return path


def drifting(label: str, size_wh: tuple[int, int]) -> ShapeAt:
    """A rectangle whose place follows from the words; it moves a pixel per frame."""
    width, height = size_wh
    seed = hashlib.sha256(label.encode()).digest()
    side = max(1, min(width, height) // 3)
    x0, y0 = seed[0] % max(1, width - side), seed[1] % max(1, height - side)

    def shape_at(frame: int) -> Rle:
        x = (x0 + frame) % max(1, width - side)
        return rle.encode(_rectangle((x, y0, x + side, y0 + side), size_wh))

    return shape_at


def still(mask: Rle) -> ShapeAt:
    """The same mask on every frame."""
    return lambda _: mask


def rectangles_around(prompts: Sequence[PointPrompt], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """(n, h, w): the rectangle that holds the points of each prompt, negative points left out."""
    width, height = size_wh
    masks = []
    for prompt in prompts:
        inside = [point for point, label in zip(prompt.points_xy, prompt.labels, strict=True) if label != 0]
        xs, ys = [x * width for x, _ in inside], [y * height for _, y in inside]
        margin = _POINT_MARGIN if len(inside) == 1 else 0
        box = (min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin)
        x0, y0, x1, y1 = (round(edge) for edge in box)
        masks.append(_rectangle((x0, y0, x1, y1), size_wh))
    return np.stack(masks)


def _rectangle(box_xyxy: tuple[int, int, int, int], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = size_wh
    x0, y0, x1, y1 = (max(edge, 0) for edge in box_xyxy)
    mask_hw = np.zeros((height, width), dtype=np.bool_)
    mask_hw[y0:y1, x0:x1] = True
    return mask_hw
