"""Random scenes of the world of shapes, deterministic by seed: which objects, where, and how they move."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

from sa2va_tools.nano.world import scenes
from sa2va_tools.nano.world.scenes import DIRECTIONS_XY, SIDE, STILL, Rgb, ShapeObject, is_held_out

_ANY_RADIUS_PX = (8.0, 31.0)
_ASPECTS = (1.0, 1.0, 1.0, 4 / 3, 16 / 9, 3 / 4, 9 / 16)
_MIN_COLOUR_DISTANCE = 75.0
"""A random colour closer than this to a named one could be called by that name."""
_TRIES = 40

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class SceneRecipe:
    """What kind of scenes to draw. Shares are probabilities, 0 … 1."""

    video: bool = False
    split: Split = "train"
    object_counts: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 4, 5)
    """One of them is drawn."""
    unnamed_share: float = 0.0
    """Objects with a random colour without a name."""
    leave_share: float = 0.1
    """Moving objects that leave the picture."""
    return_share: float = 0.0
    """Moving objects that turn back."""
    crossing_share: float = 0.0
    """Scenes in which one object passes in front of or behind another one."""
    free_size_share: float = 0.12
    """Objects of any size, also of one that is neither small nor large."""
    vivid_share: float = 0.0
    """Scenes with a background of any colour instead of a dull one."""
    plain: bool = False
    """An even grey background that all colours stand out from, and a perfect camera."""
    held_out_objects: int = 1
    """Scenes of the split "test" contain up to so many held-out objects on purpose."""


def sample_scene(rng: random.Random, recipe: SceneRecipe) -> tuple[ShapeObject, ...]:
    """At least one object, in drawing order (later ones cover earlier ones).

    A "train" scene contains no held-out pair, not even through a random colour; a "test" scene contains at
    least one.
    """
    while True:
        crossing = recipe.video and rng.random() < recipe.crossing_share
        count = max(rng.choice(recipe.object_counts), 2 if crossing else 1)
        aspect = rng.choice(_ASPECTS) * rng.uniform(0.92, 1.08)
        objects: list[ShapeObject] = []
        for position in range(count):
            held_out = recipe.split == "test" and position < recipe.held_out_objects
            moves = crossing and position == 1
            for _ in range(_TRIES):
                candidate = _sample_object(rng, recipe, objects, aspect, held_out=held_out, moves=moves)
                if candidate is not None and all(_are_apart(candidate, other) for other in objects):
                    objects.append(candidate)
                    break
        if crossing:
            objects = _make_cross(rng, objects)
        if objects and (recipe.split == "train" or any(map(is_held_out, objects))):
            rng.shuffle(objects)
            return tuple(objects)


def _sample_object(
    rng: random.Random,
    recipe: SceneRecipe,
    others: list[ShapeObject],
    aspect: float,
    *,
    held_out: bool,
    moves: bool,
) -> ShapeObject | None:
    """`others` are in the scene already; `held_out` and `moves` are demands."""
    looks = _sample_looks(rng, recipe, others, held_out)
    if looks is None:
        return None
    colour, shape, rgb = looks
    radius = rng.uniform(*scenes.SIZE_RADII_PX[rng.randrange(2)])
    if rng.random() < recipe.free_size_share:
        radius = rng.uniform(*_ANY_RADIUS_PX)
    size = int(radius > scenes.LARGE_FROM_PX)
    motion = rng.randrange(len(DIRECTIONS_XY if moves else scenes.MOTIONS)) if recipe.video else STILL
    growth = 1.0
    if motion == scenes.GROWING:
        growth = rng.uniform(1.45, 1.9)
        radius *= 0.85 if size else 1.0
    unplaced = ShapeObject(
        colour=colour,
        shape=shape,
        size=size,
        motion=motion,
        rgb=rgb,
        radius_xy=(radius / math.sqrt(aspect), radius * math.sqrt(aspect)),
        rotation=_sample_rotation(rng, shape),
        start_xy=(0.0, 0.0),
        shift_xy=(0.0, 0.0),
        growth=growth,
        style=rng.random(),
    )
    return _place(rng, recipe, unplaced)


def _sample_looks(
    rng: random.Random, recipe: SceneRecipe, others: list[ShapeObject], held_out: bool
) -> tuple[int | None, int, Rgb] | None:
    """Colour, shape and RGB."""
    if held_out:
        colour, shape = rng.choice(sorted(scenes.HELD_OUT))
        return colour, shape, _sample_rgb(rng, colour)
    shape = others[-1].shape if others and rng.random() < 0.2 else rng.randrange(len(scenes.SHAPES))
    if rng.random() < recipe.unnamed_share:
        rgb = (rng.uniform(0, 255), rng.uniform(0, 255), rng.uniform(0, 255))
        held_out_distance = scenes.colour_distance(rgb, scenes.HELD_OUT_COLOUR[shape])
        return None if held_out_distance < _MIN_COLOUR_DISTANCE else (None, shape, rgb)
    colour = rng.randrange(len(scenes.COLOURS))
    if others and others[-1].colour is not None and rng.random() < 0.25:
        colour = others[-1].colour
    if recipe.split == "train" and (colour, shape) in scenes.HELD_OUT:
        return None
    return colour, shape, _sample_rgb(rng, colour)


def _sample_rgb(rng: random.Random, colour: int) -> Rgb:
    version = rng.choice(scenes.PALETTE[colour])
    red, green, blue = (min(255.0, max(0.0, value + rng.uniform(-14, 14))) for value in version)
    return red, green, blue


def _sample_rotation(rng: random.Random, shape: int) -> float:
    if rng.random() < 0.3:
        return 0.0  # as most programs draw
    # A square or a cross turned by 45 degrees, or a triangle on its tip, would be a different shape.
    limit = {"star": 0.6, "hexagon": math.pi / 6}.get(scenes.SHAPES[shape], 0.22)
    return rng.uniform(-limit, limit)


def _place(rng: random.Random, recipe: SceneRecipe, unplaced: ShapeObject) -> ShapeObject | None:
    """Choose positions such that the object starts inside the picture, and ends inside unless it leaves."""
    direction = DIRECTIONS_XY.get(unplaced.motion, (0.0, 0.0))
    distance = rng.uniform(24, 60)
    leaves = unplaced.motion in DIRECTIONS_XY and rng.random() < recipe.leave_share
    starts = [0.0, 0.0]
    shifts = [0.0, 0.0]
    for axis in (0, 1):
        reach = unplaced.radius_xy[axis] * unplaced.growth + 1
        shift = direction[axis] * distance
        low = reach if leaves else reach + max(0.0, -shift)
        high = SIDE - reach if leaves else SIDE - reach - max(0.0, shift)
        if high <= low:
            return None
        starts[axis] = rng.uniform(low, high)
        if leaves and direction[axis]:
            room = starts[axis] if direction[axis] < 0 else SIDE - starts[axis]
            shift = direction[axis] * (room + reach) * rng.uniform(1.1, 2.0)
        shifts[axis] = shift
    returns = unplaced.motion in DIRECTIONS_XY and rng.random() < recipe.return_share
    return replace(
        unplaced, start_xy=(starts[0], starts[1]), shift_xy=(shifts[0], shifts[1]), returns=returns
    )


def _make_cross(rng: random.Random, objects: list[ShapeObject]) -> list[ShapeObject]:
    """Move one object into the path of another one; the objects as they were if no attempt succeeds."""
    movers = [obj for obj in objects if obj.motion in DIRECTIONS_XY]
    for _ in range(_TRIES if movers and len(objects) > 1 else 0):
        mover = rng.choice(movers)
        obstacle = rng.choice([obj for obj in objects if obj is not mover])
        moment = rng.uniform(0.25, 0.75)
        mover_xy = mover.centre_at(moment)
        obstacle_xy = obstacle.centre_at(moment)
        offset = [rng.uniform(-0.4, 0.4) * radius for radius in obstacle.radius_xy]
        start = (
            obstacle.start_xy[0] + mover_xy[0] - obstacle_xy[0] + offset[0],
            obstacle.start_xy[1] + mover_xy[1] - obstacle_xy[1] + offset[1],
        )
        moved = replace(obstacle, start_xy=start)
        others = [obj for obj in objects if obj is not obstacle]
        inside = all(r <= s <= SIDE - r for r, s in zip(obstacle.radius_xy, start, strict=True))
        if inside and all(_gap(moved, other, 0.0) > 0.95 for other in others):
            return [*others, moved]
    return objects


def _are_apart(one: ShapeObject, other: ShapeObject) -> bool:
    """True if they hardly touch at the start. Their paths may cross, and they may touch at the end."""
    both_stand_still = one.motion == other.motion == STILL
    return _gap(one, other, 0.0) > 0.95 and (both_stand_still or _gap(one, other, 1.0) > 0.55)


def _gap(one: ShapeObject, other: ShapeObject, progress: float) -> float:
    """The distance of the centres, on each axis in sums of radii (1.0: the ellipses just touch)."""
    ax, ay = one.centre_at(progress)
    bx, by = other.centre_at(progress)
    reach_x = one.radius_xy[0] * one.scale_at(progress) + other.radius_xy[0] * other.scale_at(progress)
    reach_y = one.radius_xy[1] * one.scale_at(progress) + other.radius_xy[1] * other.scale_at(progress)
    return math.hypot((ax - bx) / reach_x, (ay - by) / reach_y)
