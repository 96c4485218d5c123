"""Pixels of a shape-world scene: frames, visible masks and boxes. Knows nothing of language or models."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.training.world import SHAPES, SIDE, SceneRecipe, ShapeObject, sample_scene

_SUBPIXEL_BITS = 4
_STYLES = 8  # hands of painters
_MIN_CONTRAST = 70.0
_MIN_VISIBLE = 0.6
_USUAL = SceneRecipe()

_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


@dataclass(frozen=True, slots=True)
class Clip:
    """A rendered scene of T frames and N objects.

    `frames_thwc` uint8 RGB; `ids_thw` uint8, 0 = background, i + 1 = object i where it is visible;
    `boxes_tn4` float32 xyxy of the whole shape inside the picture (zeros when it is gone);
    `areas_tn` float32, pixels of the whole shape inside the picture, covered or not.
    """

    objects: tuple[ShapeObject, ...]
    frames_thwc: NDArray[np.uint8]
    ids_thw: NDArray[np.uint8]
    boxes_tn4: NDArray[np.float32]
    areas_tn: NDArray[np.float32]

    def mask_hw(self, object_index: int, frame: int = 0) -> NDArray[np.bool_]:
        """Where the object is visible."""
        return self.ids_thw[frame] == object_index + 1


def sample_clip(rng: random.Random, recipe: SceneRecipe, progress: Sequence[float] = (0.0,)) -> Clip:
    """A scene rendered at the given parts (0 … 1) of its time; at the first, each object is well visible."""
    while True:
        clip = render(sample_scene(rng, recipe), progress, rng, recipe)
        visible = np.bincount(clip.ids_thw[0].ravel(), minlength=len(clip.objects) + 1)[1:]
        if (visible >= _MIN_VISIBLE * np.maximum(clip.areas_tn[0], 1)).all():
            return clip


def render(
    objects: tuple[ShapeObject, ...],
    progress: Sequence[float],
    rng: random.Random,
    recipe: SceneRecipe = _USUAL,
) -> Clip:
    """Draw the objects in order at each moment, over one background and through one camera, which are as
    `recipe` says."""
    count, length = len(objects), len(progress)
    background = _plain(objects) if recipe.plain else _background(rng, objects, recipe.vivid_share)
    smooth_edges = rng.random() < 0.6
    camera = _Camera() if recipe.plain else _Camera.sample(rng)
    frames = np.empty((length, SIDE, SIDE, 3), np.uint8)
    ids = np.zeros((length, SIDE, SIDE), np.uint8)
    boxes = np.zeros((length, count, 4), np.float32)
    areas = np.zeros((length, count), np.float32)
    for t, moment in enumerate(progress):
        canvas = background.copy()
        for index, shape in enumerate(objects):
            outline = outline_xy(shape, moment)
            x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
            x1, y1 = np.minimum(np.ceil(outline.max(0)).astype(int) + 2, SIDE)
            if x1 <= x0 or y1 <= y0:
                continue
            cover = _fill(outline - (x0, y0), (x1 - x0, y1 - y0), smooth_edges)
            alpha = (cover.astype(np.float32) / 255)[..., None]
            patch = canvas[y0:y1, x0:x1]
            patch += (np.asarray(shape.rgb, np.float32) - patch) * alpha
            inside = cover > 127
            areas[t, index] = inside.sum()
            if areas[t, index]:
                ids[t, y0:y1, x0:x1][inside] = index + 1
                boxes[t, index] = _box(inside, x0, y0)
        frames[t] = camera.shoot(canvas)
    return Clip(objects, frames, ids, boxes, areas)


def outline_xy(shape: ShapeObject, progress: float) -> NDArray[np.float64]:
    """(K, 2) corners of the outline, in pixels."""
    cos, sin = math.cos(shape.rotation), math.sin(shape.rotation)
    turned = unit_outline(SHAPES[shape.shape], round(shape.style * _STYLES) / _STYLES) @ np.array(
        [[cos, sin], [-sin, cos]]
    )
    return turned * shape.radius_xy * shape.scale_at(progress) + shape.centre_at(progress)


@cache
def unit_outline(shape: str, style: float = 0.5) -> NDArray[np.float64]:
    """(K, 2) corners of the shape with a radius of about 1 around the origin; `style` 0 … 1 is the painter's
    hand: how thick a cross's arms and a star's heart are, how steep a triangle is."""
    if shape == "square":
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.87
    if shape == "triangle":
        tip, foot = 0.9 + 0.25 * style, 0.6 + 0.25 * style
        return np.array([[0, -tip], [1.0, foot], [-1.0, foot]])
    if shape == "cross":
        arm = 0.26 + 0.16 * style
        quarter = np.array([[-arm, -1], [arm, -1], [arm, -arm]])
        turns = [np.array([[0, 1], [-1, 0]]), np.eye(2)]
        corners, turn = [], turns[1]
        for _ in range(4):
            corners.append(quarter @ turn)
            turn = turn @ turns[0]
        return np.concatenate(corners)
    if shape == "star":
        angles = np.arange(10) * math.pi / 5 - math.pi / 2
        radii = np.where(np.arange(10) % 2 == 0, 1.12, 0.38 + 0.16 * style)
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    corners_count = {"hexagon": 6, "circle": 40}[shape]
    angles = np.arange(corners_count) * 2 * math.pi / corners_count
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _fill(outline: NDArray[np.float64], size_wh: tuple[int, int], smooth: bool) -> NDArray[np.uint8]:
    cover = np.zeros((size_wh[1], size_wh[0]), np.uint8)
    corners = np.round(outline * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(cover, [corners], (255,), cv2.LINE_AA if smooth else cv2.LINE_8, _SUBPIXEL_BITS)
    return cover


def _box(inside: NDArray[np.bool_], x0: int, y0: int) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    return x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1


def _plain(objects: tuple[ShapeObject, ...]) -> NDArray[np.float32]:
    greys = [np.full(3, level, np.float32) for level in (0, 128, 255)]
    return np.full((SIDE, SIDE, 3), max(greys, key=lambda grey: _contrast(grey, objects)), np.float32)


def _contrast(ground: NDArray[np.float32], objects: tuple[ShapeObject, ...]) -> float:
    """Distance to the paint that is closest."""
    return min(float(np.linalg.norm(ground - shape.rgb)) for shape in objects)


def _background(
    rng: random.Random, objects: tuple[ShapeObject, ...], vivid_share: float
) -> NDArray[np.float32]:
    vivid = vivid_share > 0 and rng.random() < vivid_share
    base = _background_colour(rng, objects, _any_colour if vivid else _dull_colour)
    canvas = np.empty((SIDE, SIDE, 3), np.float32)
    canvas[:] = base
    kind = rng.random()
    if kind < 0.3:
        return canvas
    noise = np.random.default_rng(rng.getrandbits(32))
    if kind < 0.75:
        slope_x, slope_y = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
        canvas += ((_X - SIDE / 2) * slope_x + (_Y - SIDE / 2) * slope_y)[..., None]
    if kind > 0.5:
        grid = rng.choice((3, 5, 9))
        coarse = noise.normal(0, rng.uniform(2, 14), (grid, grid)).astype(np.float32)
        canvas += cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., None]
    pattern = rng.random()
    if pattern < 0.12:
        angle, pitch = rng.uniform(0, math.pi), rng.uniform(0.2, 0.9)
        wave = np.sin((_X * math.cos(angle) + _Y * math.sin(angle)) * pitch)
        canvas += (wave * rng.uniform(3, 9))[..., None]
    elif pattern < 0.24:
        tile = rng.choice((8, 16, 32))
        canvas += ((((_X // tile) + (_Y // tile)) % 2) * rng.uniform(-12, 12))[..., None]
    if kind > 0.6:
        canvas += noise.standard_normal((SIDE, SIDE, 1), np.float32) * rng.uniform(0, 6)
    return canvas


def _dull_colour(rng: random.Random) -> NDArray[np.float32]:
    level = rng.choice((0.0, 255.0, rng.uniform(20, 235), rng.uniform(20, 235), rng.uniform(20, 235)))
    spread = 0 if level in (0.0, 255.0) else rng.choice((0, 12, 30))
    return np.array([level + rng.uniform(-spread, spread) for _ in range(3)], np.float32)


def _any_colour(rng: random.Random) -> NDArray[np.float32]:
    return np.array([rng.uniform(0, 255) for _ in range(3)], np.float32)


def _background_colour(
    rng: random.Random,
    objects: tuple[ShapeObject, ...],
    draw: Callable[[random.Random], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """A colour that every object stands out from."""
    best, best_contrast = np.zeros(3, np.float32), -1.0
    for _ in range(12):
        colour = draw(rng)
        contrast = _contrast(colour, objects)
        if contrast > best_contrast:
            best, best_contrast = colour, contrast
        if best_contrast >= _MIN_CONTRAST:
            break
    return best


@dataclass(frozen=True, slots=True)
class _Camera:
    """What happens to the picture on its way: resampling blur and JPEG, as in decoded video."""

    blur_side: int | None = None
    jpeg_quality: int | None = None

    @classmethod
    def sample(cls, rng: random.Random) -> _Camera:
        blur = rng.choice((88, 104, 160)) if rng.random() < 0.2 else None
        quality = rng.randint(45, 95) if rng.random() < 0.35 else None
        return cls(blur, quality)

    def shoot(self, canvas: NDArray[np.float32]) -> NDArray[np.uint8]:
        frame = np.clip(canvas, 0, 255).astype(np.uint8)
        if self.blur_side is not None:
            there = cv2.resize(frame, (self.blur_side,) * 2, interpolation=cv2.INTER_AREA)
            frame = np.asarray(cv2.resize(there, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR))
        if self.jpeg_quality is not None:
            _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])
            frame = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
        return frame.astype(np.uint8, copy=False)
