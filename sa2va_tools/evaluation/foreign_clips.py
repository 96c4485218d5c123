"""Clips drawn by another hand than the training's: plain OpenCV shapes at real sizes, written as H.264 files.

Nothing here comes from `training/` but the names of colours and shapes: paints are drawn from ranges of hue,
shapes from their textbook outlines, and the picture is not the model's square. Deterministic by seed.
"""

from __future__ import annotations

import colorsys
import math
import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.training.world import COLOURS, SHAPES

_SIZES_WH = ((160, 120), (240, 180), (320, 240), (480, 270), (640, 360), (256, 256), (240, 320))
_HUES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-0.02, 0.02), (0.75, 1.0), (0.65, 1.0)),
    "orange": ((0.07, 0.105), (0.8, 1.0), (0.9, 1.0)),
    "yellow": ((0.145, 0.175), (0.65, 1.0), (0.85, 1.0)),
    "green": ((0.29, 0.39), (0.6, 1.0), (0.4, 1.0)),
    "cyan": ((0.49, 0.53), (0.6, 1.0), (0.75, 1.0)),
    "blue": ((0.6, 0.68), (0.7, 1.0), (0.55, 1.0)),
    "purple": ((0.75, 0.82), (0.6, 1.0), (0.45, 0.85)),
    "pink": ((0.9, 0.96), (0.3, 0.6), (0.95, 1.0)),
}
"""Hue, saturation and value (0 … 1) of each colour name."""
_MIN_CONTRAST = 90.0
_CLEAR = 1.15  # centres are this many sums of radii apart, at the start


@dataclass(frozen=True, slots=True)
class ForeignObject:
    """`centre_xy` and `shift_xy` (over the whole clip) in pixels."""

    colour: str
    shape: str
    rgb: tuple[int, int, int]
    radius: float
    centre_xy: tuple[float, float]
    shift_xy: tuple[float, float]
    turn: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class ForeignClip:
    """`frames_thwc` uint8 RGB; `masks_nthw` bool, where each object is visible."""

    objects: tuple[ForeignObject, ...]
    frames_thwc: NDArray[np.uint8]
    masks_nthw: NDArray[np.bool_]

    def write(self, path: Path) -> None:
        """As an H.264 MP4 of 10 frames a second."""
        height, width = self.frames_thwc.shape[1:3]
        with VideoWriter(path, (width, height), Fraction(10), crf=23) as writer:
            for frame in self.frames_thwc:
                writer.write(frame)


def foreign_clip(rng: random.Random) -> ForeignClip:
    """One to five objects of different looks, moving apart or still, 1 to 48 frames."""
    width, height = rng.choice(_SIZES_WH)
    frames = rng.choice((1, 4, 8, 16, 24, 48))
    background = _background(rng, width, height)
    objects = _objects(rng, background, rng.randint(1, 5))
    line = rng.choice((cv2.LINE_8, cv2.LINE_AA))
    noise = np.random.default_rng(rng.getrandbits(32))
    grain = rng.choice((0.0, 0.0, 3.0, 8.0))
    pictures, masks = [], np.zeros((len(objects), frames, height, width), bool)
    for t in range(frames):
        picture = background.astype(np.uint8).copy()
        for index, thing in enumerate(objects):
            way = t / max(1, frames - 1)
            inside = np.zeros((height, width), np.uint8)
            for canvas, paint, edge in ((picture, thing.rgb, line), (inside, (255,), cv2.LINE_8)):
                _draw(canvas, thing, way, paint, edge)
            masks[:index, t] &= inside == 0
            masks[index, t] = inside > 0
        rough = picture + noise.normal(0, 1, picture.shape) * grain
        pictures.append(np.clip(rough, 0, 255).astype(np.uint8))
    return ForeignClip(tuple(objects), np.stack(pictures), masks)


def absent_name(rng: random.Random, clip: ForeignClip) -> str:
    """A colour and a shape that no object has together."""
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    return rng.choice([name for name in names if name not in {thing.name for thing in clip.objects}])


def _background(rng: random.Random, width: int, height: int) -> NDArray[np.float64]:
    level = np.full(3, rng.choice((0, 255, rng.uniform(20, 235), rng.uniform(20, 235))), float)
    picture = np.broadcast_to(level + rng.uniform(-10, 10), (height, width, 3)).copy()
    kind = rng.choice(("solid", "gradient", "noise"))
    if kind == "gradient":
        slope = np.linspace(-1, 1, width)[None, :, None] * rng.uniform(-45, 45)
        picture += slope + np.linspace(-1, 1, height)[:, None, None] * rng.uniform(-45, 45)
    elif kind == "noise":
        random_state = np.random.default_rng(rng.getrandbits(32))
        picture += random_state.normal(0, rng.uniform(3, 12), (height, width, 1))
    return np.asarray(np.clip(picture, 0, 255))


def _objects(rng: random.Random, background: NDArray[np.float64], count: int) -> list[ForeignObject]:
    height, width = background.shape[:2]
    ground = background.reshape(-1, 3).mean(0)
    objects: list[ForeignObject] = []
    for _ in range(300):
        if len(objects) == count:
            break
        colour, shape = rng.choice(COLOURS), rng.choice(SHAPES)
        rgb = paint(rng, colour)
        radius = rng.uniform(0.09, 0.2) * min(width, height)
        shift = (rng.uniform(-0.3, 0.3) * width, rng.uniform(-0.3, 0.3) * height)
        if rng.random() < 0.4:
            shift = (0.0, 0.0)
        x = rng.uniform(radius + max(0, -shift[0]), width - radius - max(0, shift[0]))
        y = rng.uniform(radius + max(0, -shift[1]), height - radius - max(0, shift[1]))
        thing = ForeignObject(colour, shape, rgb, radius, (x, y), shift, rng.choice((0.0, 0.0, 0.2)))
        if math.dist(rgb, ground) < _MIN_CONTRAST or any(o.name == thing.name for o in objects):
            continue
        if all(math.dist(o.centre_xy, (x, y)) > _CLEAR * (o.radius + radius) for o in objects):
            objects.append(thing)
    return objects


def paint(rng: random.Random, colour: str) -> tuple[int, int, int]:
    """One of the many RGB values that go by the name."""
    hue, saturation, value = (rng.uniform(*reach) for reach in _HUES[colour])
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw(
    canvas: NDArray[np.uint8], thing: ForeignObject, way: float, paint: tuple[int, ...], line: int
) -> None:
    x = thing.centre_xy[0] + way * thing.shift_xy[0]
    y = thing.centre_xy[1] + way * thing.shift_xy[1]
    r = thing.radius
    if thing.shape == "circle":
        cv2.circle(canvas, (round(x), round(y)), round(r), paint, -1, line)
        return
    if thing.shape == "cross":
        arm = r * 0.33
        for a, b in ((r, arm), (arm, r)):
            cv2.rectangle(canvas, (round(x - a), round(y - b)), (round(x + a), round(y + b)), paint, -1)
        return
    corners = {"triangle": 3, "square": 4, "hexagon": 6, "star": 10}[thing.shape]
    start = {"square": math.pi / 4, "hexagon": 0.0}.get(thing.shape, -math.pi / 2) + thing.turn
    points = []
    for k in range(corners):
        reach = r * 0.42 if thing.shape == "star" and k % 2 else r
        angle = start + 2 * math.pi * k / corners
        points.append((round(x + reach * math.cos(angle)), round(y + reach * math.sin(angle))))
    cv2.fillPoly(canvas, [np.asarray(points, np.int32)], paint, line)
