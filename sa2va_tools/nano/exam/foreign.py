"""How the nano does on files from another renderer, asked through the engine as a user would ask.

The files show plain OpenCV shapes at real sizes, written as H.264. Of `nano.world` they use the names of
colours and shapes only: colours are drawn from ranges of hue, shapes have their textbook outlines, and the
picture is not the model's square. Deterministic by seed.
"""

from __future__ import annotations

import colorsys
import math
import random
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.evaluation.metrics import Interval, bootstrap, mean, region_similarity
from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.nano.exam.cases import EXAM_SEED
from sa2va_tools.nano.world.expressions import add_article, pluralize
from sa2va_tools.nano.world.scenes import COLOURS, SHAPES
from sa2va_tools.run import Run

FOREIGN = "another renderer's files (all 48 pairs)"
_SIZES_WH = ((160, 120), (240, 180), (320, 240), (480, 270), (640, 360), (256, 256), (240, 320))
_HSV_RANGES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
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
_FPS = Fraction(10)
_TRIES = 300
_MIN_CONTRAST = 90.0
_MIN_DISTANCE = 1.15
"""Between centres at the start, in sums of radii."""
_CORNERS = {"triangle": 3, "square": 4, "hexagon": 6, "star": 10}
_FIRST_CORNER = {"triangle": -math.pi / 2, "square": math.pi / 4, "hexagon": 0.0, "star": -math.pi / 2}
"""The angle of the first corner."""


@dataclass(frozen=True, slots=True)
class ForeignObject:
    """`centre_xy` (at the start) and `shift_xy` (over the whole clip) are in pixels."""

    colour: str
    shape: str
    rgb: tuple[int, int, int]
    radius: float
    centre_xy: tuple[float, float]
    shift_xy: tuple[float, float]
    rotation: float

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
        """Write an H.264 MP4 with 10 frames per second."""
        height, width = self.frames_thwc.shape[1:3]
        with VideoWriter(path, (width, height), _FPS, crf=23) as writer:
            for frame in self.frames_thwc:
                writer.write(frame)


def sample_foreign_clip(rng: random.Random) -> ForeignClip:
    """One to five objects of different looks, which move apart or stand still, on 1 to 48 frames."""
    width, height = rng.choice(_SIZES_WH)
    frames = rng.choice((1, 4, 8, 16, 24, 48))
    background = _sample_background(rng, width, height)
    objects = _sample_objects(rng, background, rng.randint(1, 5))
    line = rng.choice((cv2.LINE_8, cv2.LINE_AA))
    noise = np.random.default_rng(rng.getrandbits(32))
    grain = rng.choice((0.0, 0.0, 3.0, 8.0))
    pictures = []
    masks = np.zeros((len(objects), frames, height, width), bool)
    for t in range(frames):
        picture = background.astype(np.uint8).copy()
        for index, obj in enumerate(objects):
            progress = t / max(1, frames - 1)
            inside = np.zeros((height, width), np.uint8)
            _draw(picture, obj, progress, colour=obj.rgb, line=line)
            _draw(inside, obj, progress, colour=(255,), line=cv2.LINE_8)
            masks[:index, t] &= inside == 0
            masks[index, t] = inside > 0
        noisy = picture + noise.normal(0, 1, picture.shape) * grain
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return ForeignClip(tuple(objects), np.stack(pictures), masks)


def sample_absent_name(rng: random.Random, clip: ForeignClip) -> str:
    """A colour and a shape that no object has together."""
    present = {obj.name for obj in clip.objects}
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    return rng.choice([name for name in names if name not in present])


def _sample_background(rng: random.Random, width: int, height: int) -> NDArray[np.float64]:
    level = np.full(3, rng.choice((0, 255, rng.uniform(20, 235), rng.uniform(20, 235))), float)
    picture = np.broadcast_to(level + rng.uniform(-10, 10), (height, width, 3)).copy()
    kind = rng.choice(("solid", "gradient", "noise"))
    if kind == "gradient":
        slope = np.linspace(-1, 1, width)[None, :, None] * rng.uniform(-45, 45)
        picture += slope + np.linspace(-1, 1, height)[:, None, None] * rng.uniform(-45, 45)
    elif kind == "noise":
        noise = np.random.default_rng(rng.getrandbits(32))
        picture += noise.normal(0, rng.uniform(3, 12), (height, width, 1))
    return np.asarray(np.clip(picture, 0, 255))


def _sample_objects(rng: random.Random, background: NDArray[np.float64], count: int) -> list[ForeignObject]:
    mean_background = background.reshape(-1, 3).mean(0)
    objects: list[ForeignObject] = []
    for _ in range(_TRIES):
        if len(objects) == count:
            break
        new = _sample_object(rng, background.shape[1], background.shape[0])
        if math.dist(new.rgb, mean_background) >= _MIN_CONTRAST and all(
            obj.name != new.name
            and math.dist(obj.centre_xy, new.centre_xy) > _MIN_DISTANCE * (obj.radius + new.radius)
            for obj in objects
        ):
            objects.append(new)
    return objects


def _sample_object(rng: random.Random, width: int, height: int) -> ForeignObject:
    colour = rng.choice(COLOURS)
    shape = rng.choice(SHAPES)
    hue, saturation, value = (rng.uniform(*limits) for limits in _HSV_RANGES[colour])
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    radius = rng.uniform(0.09, 0.2) * min(width, height)
    shift = (rng.uniform(-0.3, 0.3) * width, rng.uniform(-0.3, 0.3) * height)
    if rng.random() < 0.4:
        shift = (0.0, 0.0)
    x = rng.uniform(radius + max(0, -shift[0]), width - radius - max(0, shift[0]))
    y = rng.uniform(radius + max(0, -shift[1]), height - radius - max(0, shift[1]))
    rgb = (round(255 * red), round(255 * green), round(255 * blue))
    return ForeignObject(colour, shape, rgb, radius, (x, y), shift, rotation=rng.choice((0.0, 0.0, 0.2)))


def _draw(
    canvas: NDArray[np.uint8], obj: ForeignObject, progress: float, *, colour: tuple[int, ...], line: int
) -> None:
    x = obj.centre_xy[0] + progress * obj.shift_xy[0]
    y = obj.centre_xy[1] + progress * obj.shift_xy[1]
    if obj.shape == "circle":
        cv2.circle(canvas, (round(x), round(y)), round(obj.radius), colour, thickness=-1, lineType=line)
        return
    if obj.shape == "cross":
        arm = obj.radius * 0.33
        for dx, dy in ((obj.radius, arm), (arm, obj.radius)):
            top_left = (round(x - dx), round(y - dy))
            cv2.rectangle(canvas, top_left, (round(x + dx), round(y + dy)), colour, thickness=-1)
        return
    count = _CORNERS[obj.shape]
    points = []
    for k in range(count):
        reach = obj.radius * 0.42 if obj.shape == "star" and k % 2 else obj.radius
        angle = _FIRST_CORNER[obj.shape] + obj.rotation + 2 * math.pi * k / count
        points.append((round(x + reach * math.cos(angle)), round(y + reach * math.sin(angle))))
    cv2.fillPoly(canvas, [np.asarray(points, np.int32)], colour, line)


def evaluate_foreign_files(
    engine: Engine, *, count: int = 120, seed: int = EXAM_SEED, run: Run | None = None
) -> dict[str, Interval]:
    """Scores of `count` files, each asked for one object by "the {colour} {shape}" (mean IoU over frames),
    whether an object is there (half are not), and a count."""
    run = run or Run()
    values: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            run.raise_if_cancelled()
            rng = random.Random(f"{seed} foreign {number}")
            clip = sample_foreign_clip(rng)
            path = Path(folder) / f"{number}.mp4"
            clip.write(path)
            values["mean IoU"].append(_mark_masks(engine, path, clip, rng))
            values["presence"].append(_mark_presence(engine, path, clip, rng))
            values["count"].append(_mark_count(engine, path, clip, rng))
            run.report("files", number + 1, count, path.name)
    return {metric: bootstrap(some, mean) for metric, some in values.items()}


def _mark_masks(engine: Engine, path: Path, clip: ForeignClip, rng: random.Random) -> float:
    index = rng.randrange(len(clip.objects))
    found = engine.segment(path, f"the {clip.objects[index].name}").objects[0]
    target = clip.masks_nthw[index]
    predicted = np.zeros_like(target)
    if found.track is not None:
        for frame in filter(found.track.covers, range(len(target))):
            predicted[frame] = found.track.mask(frame)
    return region_similarity(predicted, target)


def _mark_presence(engine: Engine, path: Path, clip: ForeignClip, rng: random.Random) -> float:
    is_there = rng.random() < 0.5
    name = rng.choice(clip.objects).name if is_there else sample_absent_name(rng, clip)
    answer = engine.describe(path, f"Is there {add_article(name)}?").text
    return float(answer.startswith("Yes" if is_there else "No"))


def _mark_count(engine: Engine, path: Path, clip: ForeignClip, rng: random.Random) -> float:
    noun = "object"
    number = len(clip.objects)
    if rng.random() < 0.5:
        noun = rng.choice(clip.objects).shape if rng.random() < 0.8 else rng.choice(SHAPES)
        number = sum(obj.shape == noun for obj in clip.objects)
    answer = engine.describe(path, f"How many {pluralize(noun)} are there?").text
    return float(answer.strip(" .") == str(number))
