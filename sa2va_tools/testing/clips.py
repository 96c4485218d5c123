"""Small videos that are made, not stored."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.media.encode import VideoWriter


def synthetic_clip(
    path: Path,
    *,
    frames: int = 16,
    size_wh: tuple[int, int] = (96, 64),
    fps: Fraction = Fraction(10),
) -> Path:
    """Write a small H.264 clip of a red square that moves over grey, and return `path`."""
    with VideoWriter(path, size_wh, fps, threads=1) as writer:
        for index in range(frames):
            writer.write(_square_at(index, size_wh))
    return path


def _square_at(index: int, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    width, height = size_wh
    frame = np.full((height, width, 3), 120, dtype=np.uint8)
    side = min(width, height) // 4
    x = (2 * index) % (width - side)
    frame[side : 2 * side, x : x + side] = (220, 30, 30)
    return frame
