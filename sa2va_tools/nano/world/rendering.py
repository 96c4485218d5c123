"""Pixels of a scene: background, objects, camera; with masks of what is visible, and boxes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.nano.world.sampling import SceneRecipe, sample_scene
from sa2va_tools.nano.world.scenes import SHAPES, SIDE, Scene, ShapeObject

_SUBPIXEL_BITS = 4
_STYLES = 8
"""Styles are rounded to so many steps, so that outlines can be cached."""
_MIN_VISIBLE_SHARE = 0.6
_DEFAULT_RECIPE = SceneRecipe()
_MIN_CONTRAST = 70.0
_BACKGROUND_TRIES = 12
_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)

Canvas = NDArray[np.float32]
"""(S, S, 3) RGB, roughly 0 … 255."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A rendered scene of T frames and N objects."""

    objects: tuple[ShapeObject, ...]
    frames_thwc: NDArray[np.uint8]
    """RGB"""
    ids_thw: NDArray[np.uint8]
    """0 for the background, i + 1 where object i is visible."""
    boxes_tn4: NDArray[np.float32]
    """xyxy in pixels of the whole shape, as far as it is inside the picture; zeros if it has left."""
    areas_tn: NDArray[np.float32]
    """Pixels of the whole shape inside the picture, covered or not."""

    def mask_hw(self, object_index: int, frame: int = 0) -> NDArray[np.bool_]:
        """Where the object is visible."""
        return self.ids_thw[frame] == object_index + 1

    def masks_thw(self, object_index: int) -> NDArray[np.bool_]:
        """Where the object is visible, on all frames."""
        return np.equal(self.ids_thw, object_index + 1)


def sample_clip(rng: random.Random, recipe: SceneRecipe, progress: Sequence[float] = (0.0,)) -> Clip:
    """A random scene rendered at the given moments (0 … 1) of the clip. On the first frame, at least 60 % of
    each object are visible."""
    while True:
        clip = render(sample_scene(rng, recipe), progress, rng, recipe)
        visible = np.bincount(clip.ids_thw[0].ravel(), minlength=len(clip.objects) + 1)[1:]
        if (visible >= _MIN_VISIBLE_SHARE * np.maximum(clip.areas_tn[0], 1)).all():
            return clip


def render(
    objects: tuple[ShapeObject, ...],
    progress: Sequence[float],
    rng: random.Random,
    recipe: SceneRecipe = _DEFAULT_RECIPE,
) -> Clip:
    """Draw the objects at each moment, over one background and through one camera, as in `recipe`."""
    shape = (len(progress), len(objects))
    background = _plain_background(objects) if recipe.plain else _sample_background(rng, objects, recipe)
    smooth_edges = rng.random() < 0.6
    blur_side = None
    jpeg_quality = None
    if not recipe.plain:
        blur_side = rng.choice((88, 104, 160)) if rng.random() < 0.2 else None
        jpeg_quality = rng.randint(45, 95) if rng.random() < 0.35 else None
    clip = Clip(
        objects=objects,
        frames_thwc=np.empty((len(progress), SIDE, SIDE, 3), np.uint8),
        ids_thw=np.zeros((len(progress), SIDE, SIDE), np.uint8),
        boxes_tn4=np.zeros((*shape, 4), np.float32),
        areas_tn=np.zeros(shape, np.float32),
    )
    for frame, moment in enumerate(progress):
        canvas = background.copy()
        for index in range(len(objects)):
            _draw_object(clip, frame, index, moment, canvas, smooth_edges)
        clip.frames_thwc[frame] = _shoot(canvas, blur_side, jpeg_quality)
    return clip


def _draw_object(
    clip: Clip, frame: int, index: int, moment: float, canvas: Canvas, smooth_edges: bool
) -> None:
    """Draw onto the canvas, and note mask, box and area in the clip."""
    outline = outline_xy(clip.objects[index], moment)
    x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(outline.max(0)).astype(int) + 2, SIDE)
    if x1 <= x0 or y1 <= y0:
        return
    coverage = np.zeros((y1 - y0, x1 - x0), np.uint8)
    corners = np.round((outline - (x0, y0)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    line = cv2.LINE_AA if smooth_edges else cv2.LINE_8
    cv2.fillPoly(coverage, [corners], (255,), line, _SUBPIXEL_BITS)
    alpha = (coverage.astype(np.float32) / 255)[..., None]
    patch = canvas[y0:y1, x0:x1]
    patch += (np.asarray(clip.objects[index].rgb, np.float32) - patch) * alpha
    inside = coverage > 127
    clip.areas_tn[frame, index] = inside.sum()
    if clip.areas_tn[frame, index]:
        clip.ids_thw[frame, y0:y1, x0:x1][inside] = index + 1
        columns = np.flatnonzero(inside.any(0))
        rows = np.flatnonzero(inside.any(1))
        box_xyxy = (x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1)
        clip.boxes_tn4[frame, index] = box_xyxy


def outline_xy(obj: ShapeObject, progress: float) -> NDArray[np.float64]:
    """(K, 2) corners of the outline, in pixels, after `progress` (0 … 1) of the clip."""
    cos = math.cos(obj.rotation)
    sin = math.sin(obj.rotation)
    style = round(obj.style * _STYLES) / _STYLES
    rotated = unit_outline(SHAPES[obj.shape], style) @ np.array([[cos, sin], [-sin, cos]])
    return rotated * obj.radius_xy * obj.scale_at(progress) + obj.centre_at(progress)


@cache
def unit_outline(shape: str, style: float = 0.5) -> NDArray[np.float64]:
    """(K, 2) corners of the shape around the origin, with a radius of about 1. `style` (0 … 1) varies how
    thick the arms of a cross and the core of a star are, and how steep a triangle is."""
    if shape == "square":
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.87
    if shape == "triangle":
        tip = 0.9 + 0.25 * style
        base = 0.6 + 0.25 * style
        return np.array([[0, -tip], [1.0, base], [-1.0, base]])
    if shape == "cross":
        arm = 0.26 + 0.16 * style
        quarter = np.array([[-arm, -1], [arm, -1], [arm, -arm]])
        quarter_turn = np.array([[0, 1], [-1, 0]])
        return np.concatenate([quarter @ np.linalg.matrix_power(quarter_turn, turns) for turns in range(4)])
    if shape == "star":
        angles = np.arange(10) * math.pi / 5 - math.pi / 2
        radii = np.where(np.arange(10) % 2 == 0, 1.12, 0.38 + 0.16 * style)
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    corner_count = {"hexagon": 6, "circle": 40}[shape]
    angles = np.arange(corner_count) * 2 * math.pi / corner_count
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _plain_background(objects: Scene) -> Canvas:
    """Black, grey or white, whichever contrasts most."""
    greys = [np.full(3, level, np.float32) for level in (0, 128, 255)]
    return np.full((SIDE, SIDE, 3), max(greys, key=lambda grey: _contrast(grey, objects)), np.float32)


def _sample_background(rng: random.Random, objects: Scene, recipe: SceneRecipe) -> Canvas:
    """Even, graded, noisy or patterned."""
    vivid = recipe.vivid_share > 0 and rng.random() < recipe.vivid_share
    canvas = np.empty((SIDE, SIDE, 3), np.float32)
    canvas[:] = _sample_contrasting(rng, objects, vivid)
    kind = rng.random()
    if kind < 0.3:
        return canvas
    noise = np.random.default_rng(rng.getrandbits(32))
    if kind < 0.75:
        slope_x = rng.uniform(-0.3, 0.3)
        slope_y = rng.uniform(-0.3, 0.3)
        canvas += ((_X - SIDE / 2) * slope_x + (_Y - SIDE / 2) * slope_y)[..., None]
    if kind > 0.5:
        grid = rng.choice((3, 5, 9))
        coarse = noise.normal(0, rng.uniform(2, 14), (grid, grid)).astype(np.float32)
        canvas += cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., None]
    pattern = rng.random()
    if pattern < 0.12:
        angle = rng.uniform(0, math.pi)
        pitch = rng.uniform(0.2, 0.9)
        wave = np.sin((_X * math.cos(angle) + _Y * math.sin(angle)) * pitch)
        canvas += (wave * rng.uniform(3, 9))[..., None]
    elif pattern < 0.24:
        tile = rng.choice((8, 16, 32))
        canvas += ((((_X // tile) + (_Y // tile)) % 2) * rng.uniform(-12, 12))[..., None]
    if kind > 0.6:
        canvas += noise.standard_normal((SIDE, SIDE, 1), np.float32) * rng.uniform(0, 6)
    return canvas


def _sample_contrasting(rng: random.Random, objects: Scene, vivid: bool) -> NDArray[np.float32]:
    """The first colour with enough contrast to every object, or the best of a few."""
    best = _sample_colour(rng, vivid)
    for _ in range(_BACKGROUND_TRIES - 1):
        if _contrast(best, objects) >= _MIN_CONTRAST:
            break
        best = max(best, _sample_colour(rng, vivid), key=lambda colour: _contrast(colour, objects))
    return best


def _sample_colour(rng: random.Random, vivid: bool) -> NDArray[np.float32]:
    """Any colour, or a dull one."""
    if vivid:
        return np.array([rng.uniform(0, 255) for _ in range(3)], np.float32)
    level = rng.choice((0.0, 255.0, rng.uniform(20, 235), rng.uniform(20, 235), rng.uniform(20, 235)))
    spread = 0 if level in (0.0, 255.0) else rng.choice((0, 12, 30))
    return np.array([level + rng.uniform(-spread, spread) for _ in range(3)], np.float32)


def _contrast(colour: NDArray[np.float32], objects: Scene) -> float:
    """The RGB distance to the closest object."""
    return min(float(np.linalg.norm(colour - obj.rgb)) for obj in objects)


def _shoot(canvas: Canvas, blur_side: int | None, jpeg_quality: int | None) -> NDArray[np.uint8]:
    """The picture as a camera and a video codec leave it: resized to `blur_side` and back, and as a JPEG."""
    frame = np.clip(canvas, 0, 255).astype(np.uint8)
    if blur_side is not None:
        resized = cv2.resize(frame, (blur_side, blur_side), interpolation=cv2.INTER_AREA)
        frame = np.asarray(cv2.resize(resized, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR))
    if jpeg_quality is not None:
        _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
        frame = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return frame.astype(np.uint8, copy=False)
