"""The demo's clip: a fixed scene of the shape world, drawn larger than the model sees it.

The scene is ours to choose, the masks are not: nothing of what is known here reaches the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.training.rendering import outline_xy
from sa2va_tools.training.world import COLOURS, MOTIONS, PALETTE, SHAPES, SIDE, SIZES, ShapeObject

SIZE_WH = (512, 384)
FRAMES = 48
FPS = Fraction(12)
EXPRESSIONS = ("the red circle", "the yellow star")
_SUBPIXEL_BITS = 4
_BACKGROUND_RGB = (78, 84, 96)


def write_demo_clip(path: Path, *, frames: int = FRAMES, size_wh: tuple[int, int] = SIZE_WH) -> Path:
    """Write the scene as an H.264 clip; the whole of its movement, in however many frames."""
    with VideoWriter(path, size_wh, FPS, crf=16) as writer:
        for frame_rgb in demo_frames(frames, size_wh):
            writer.write(frame_rgb)
    return path


def demo_frames(frames: int, size_wh: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """(H, W, 3) uint8 RGB."""
    background = _background(size_wh)
    objects = _objects(size_wh[0] / size_wh[1])
    for index in range(frames):
        canvas = background.copy()
        for shape in objects:
            corners_xy = outline_xy(shape, index / max(1, frames - 1)) * (np.array(size_wh) / SIDE)
            fixed = np.round(corners_xy * (1 << _SUBPIXEL_BITS)).astype(np.int32)
            cv2.fillPoly(canvas, [fixed], shape.rgb, cv2.LINE_AA, _SUBPIXEL_BITS)
        yield canvas


def _objects(aspect: float) -> tuple[ShapeObject, ...]:
    """In drawing order: the star passes in front of the square."""
    return (
        _shape("green square", "large", "still", 17, (64, 70), (0, 0), aspect),
        _shape("yellow star", "small", "right", 12.4, (20, 42), (60, 0), aspect),
        _shape("red circle", "large", "up", 19, (105, 103), (0, -28), aspect),
        _shape("blue triangle", "small", "still", 12, (26, 100), (0, 0), aspect),
    )


def _shape(
    name: str,
    size: str,
    motion: str,
    radius: float,
    start_xy: tuple[float, float],
    shift_xy: tuple[float, float],
    aspect: float,
) -> ShapeObject:
    colour, shape = name.split()
    index = COLOURS.index(colour)
    return ShapeObject(
        colour=index,
        shape=SHAPES.index(shape),
        size=SIZES.index(size),
        motion=MOTIONS.index(motion),
        rgb=PALETTE[index][0],
        radius_xy=(radius / aspect**0.5, radius * aspect**0.5),
        rotation=0.0,
        start_xy=start_xy,
        shift_xy=shift_xy,
    )


def _background(size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """A dull colour, a little lighter to the lower right."""
    width, height = size_wh
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    shade = 18 * (x / width + y / height) - 18
    canvas = np.array(_BACKGROUND_RGB, np.float32) + shade[..., None]
    rounded: NDArray[np.uint8] = np.clip(canvas, 0, 255).astype(np.uint8)
    return rounded
