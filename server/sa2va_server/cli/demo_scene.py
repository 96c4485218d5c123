"""The demo's clip: a fixed scene of the nano model's shape world, drawn larger than the model sees it.

The model gets only the pixels; nothing else that is known here reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.nano.world.rendering import outline_xy
from sa2va_tools.nano.world.scenes import COLOURS, MOTIONS, PALETTE, SHAPES, SIDE, SIZES, ShapeObject

SIZE_WH = (512, 384)
FRAMES = 48
FPS = Fraction(12)
EXPRESSIONS = ("the red circle", "the yellow star")
_OBJECTS = (
    ("green", "square", "large", "still", 17, (64, 70), (0, 0)),
    ("yellow", "star", "small", "right", 12.4, (20, 42), (60, 0)),
    ("red", "circle", "large", "up", 19, (105, 103), (0, -28)),
    ("blue", "triangle", "small", "still", 12, (26, 100), (0, 0)),
)
"""Colour, shape, size, motion, radius, start and shift, in drawing order: the star passes in front of the
square."""
_SUBPIXEL_BITS = 4
_BACKGROUND_RGB = (78, 84, 96)


def write_demo_clip(path: Path, *, frames: int = FRAMES, size_wh: tuple[int, int] = SIZE_WH) -> Path:
    """Write the scene as an H.264 clip with its whole movement, whatever the number of frames."""
    # One thread: with more, the encoded bytes depend on the number of cores.
    with VideoWriter(path, size_wh, FPS, crf=16, threads=1) as writer:
        for frame_rgb in draw_frames(frames, size_wh):
            writer.write(frame_rgb)
    return path


def draw_frames(frames: int, size_wh: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Frames of the scene, (H, W, 3) uint8 RGB."""
    background = _draw_background(size_wh)
    objects = _make_objects(size_wh[0] / size_wh[1])
    for index in range(frames):
        canvas = background.copy()
        for shape in objects:
            corners_xy = outline_xy(shape, index / max(1, frames - 1)) * (np.array(size_wh) / SIDE)
            fixed = np.round(corners_xy * (1 << _SUBPIXEL_BITS)).astype(np.int32)
            cv2.fillPoly(canvas, [fixed], shape.rgb, cv2.LINE_AA, _SUBPIXEL_BITS)
        yield canvas


def _make_objects(aspect: float) -> list[ShapeObject]:
    return [
        ShapeObject(
            colour=COLOURS.index(colour),
            shape=SHAPES.index(shape),
            size=SIZES.index(size),
            motion=MOTIONS.index(motion),
            rgb=PALETTE[COLOURS.index(colour)][0],
            radius_xy=(radius / aspect**0.5, radius * aspect**0.5),
            rotation=0.0,
            start_xy=start_xy,
            shift_xy=shift_xy,
        )
        for colour, shape, size, motion, radius, start_xy, shift_xy in _OBJECTS
    ]


def _draw_background(size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """A dull colour that gets a little lighter towards the lower right, (H, W, 3) uint8 RGB."""
    width, height = size_wh
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    shade = 18 * (x / width + y / height) - 18
    canvas = np.array(_BACKGROUND_RGB, np.float32) + shade[..., None]
    return np.asarray(np.clip(canvas, 0, 255), np.uint8)
