"""The shape world: scenes of coloured moving shapes, deterministic by seed, and who is kept for the test.

It decides what is in a scene (objects, places, motions, never the same twice). It knows nothing of pixels
(`rendering.py`), of language (`tasks.py`) and of training.

Coordinates are pixels of the square that the model sees, x to the right and y down.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

SIDE = 128
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink")
SHAPES = ("circle", "square", "triangle", "star", "hexagon", "cross")
SIZES = ("small", "large")
MOTIONS = ("left", "right", "up", "down", "still", "growing")
STILL, GROWING = MOTIONS.index("still"), MOTIONS.index("growing")

# Never in a training scene, in any stage. Every shape is here once, and no colour twice.
HELD_OUT_NAMES = (
    ("red", "cross"),
    ("green", "star"),
    ("blue", "hexagon"),
    ("yellow", "triangle"),
    ("purple", "circle"),
    ("cyan", "square"),
)
HELD_OUT = frozenset((COLOURS.index(c), SHAPES.index(s)) for c, s in HELD_OUT_NAMES)

SHAPE_KEPT_FROM = dict(HELD_OUT)
COLOUR_KEPT_FROM = {shape: colour for colour, shape in HELD_OUT}

# Several painters' idea of each colour: ours, the pure one, the CSS ones, a dark and a pale one.
PALETTE: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((220, 40, 40), (255, 0, 0), (200, 20, 30), (178, 34, 34), (150, 10, 15), (240, 70, 65)),
    ((50, 170, 60), (0, 128, 0), (0, 255, 0), (20, 200, 40), (20, 95, 30), (110, 220, 110), (40, 250, 90)),
    ((45, 80, 220), (0, 0, 255), (30, 60, 180), (10, 20, 130), (65, 105, 225), (40, 110, 255)),
    ((240, 220, 50), (255, 255, 0), (250, 230, 20), (215, 195, 20), (255, 245, 110)),
    ((140, 50, 180), (128, 0, 128), (160, 32, 240), (100, 20, 140), (165, 85, 215)),
    ((245, 140, 30), (255, 165, 0), (255, 128, 0), (235, 120, 10), (255, 150, 60)),
    ((60, 210, 220), (0, 255, 255), (0, 200, 220), (20, 180, 190), (130, 240, 245)),
    ((250, 150, 190), (255, 192, 203), (255, 105, 180), (240, 120, 170), (255, 170, 210)),
)
_DIRECTION_XY = {0: (-1.0, 0.0), 1: (1.0, 0.0), 2: (0.0, -1.0), 3: (0.0, 1.0)}
_ALIKE = 75.0  # random paints this close to a named one might be called by its name
LARGE_FROM_PX = 14.75
_RADII = ((8.5, 12.5), (17.0, 23.0))  # what "small" and "large" mean
_ANY_RADIUS = (8.0, 31.0)
_ASPECTS = (1.0, 1.0, 1.0, 4 / 3, 16 / 9, 3 / 4, 9 / 16)

Split = Literal["train", "test"]
Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ShapeObject:
    """One shape. Indices point into COLOURS, SHAPES, SIZES and MOTIONS.

    `colour` is None for a random paint that has no name: nothing may be said or asked about it.
    `radius_xy` differ when a frame of another aspect ratio is squeezed into the square.
    """

    colour: int | None
    shape: int
    size: int
    motion: int
    rgb: Rgb
    radius_xy: tuple[float, float]
    rotation: float
    start_xy: tuple[float, float]
    shift_xy: tuple[float, float]
    growth: float = 1.0
    returns: bool = False
    style: float = 0.5  # how this painter draws the shape, 0 … 1: thin or thick arms, flat or steep

    @property
    def radius(self) -> float:
        return math.sqrt(self.radius_xy[0] * self.radius_xy[1])

    @property
    def size_is_clear(self) -> bool:
        """Is it small or large all the time, and nothing in between?"""
        return self.radius * self.growth <= _RADII[0][1] or self.radius >= 0.85 * _RADII[1][0]

    @property
    def turns_back(self) -> bool:
        """Moves both ways, which has no name in this world."""
        return self.returns and self.motion in _DIRECTION_XY

    def centre_at(self, progress: float) -> tuple[float, float]:
        """Where the centre is when `progress` of the clip (0 … 1) has passed."""
        way = 1 - abs(1 - 2 * progress) if self.returns else progress
        return self.start_xy[0] + self.shift_xy[0] * way, self.start_xy[1] + self.shift_xy[1] * way

    def scale_at(self, progress: float) -> float:
        return 1 + (self.growth - 1) * progress


@dataclass(frozen=True, slots=True)
class SceneRecipe:
    """What kind of scene to draw.

    `unnamed_share` of the objects gets a random paint; `leave_share` of the moving objects leaves the
    picture; `return_share` turns back; in `crossing_share` of the scenes one object passes over or behind
    another on its way; `free_size_share` of the objects may be of any size, also of one that is neither small
    nor large. `vivid_share` of the scenes has a ground of any colour instead of a dull one; a `plain` scene
    has an even grey that all paints stand out from, and a camera without faults. A "test" scene has up to
    `kept_objects` held-out objects on purpose.
    """

    video: bool = False
    split: Split = "train"
    object_counts: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 4, 5)
    unnamed_share: float = 0.0
    leave_share: float = 0.1
    return_share: float = 0.0
    crossing_share: float = 0.0
    free_size_share: float = 0.12
    vivid_share: float = 0.0
    plain: bool = False
    kept_objects: int = 1


def paint_distance(rgb: Rgb, colour: int) -> float:
    """How far `rgb` is from the named colour's closest paint."""
    return min(math.dist(rgb, paint) for paint in PALETTE[colour])


def nearest_colour(rgb: Rgb) -> int:
    """The named colour whose paints come closest to `rgb`."""
    return min(range(len(COLOURS)), key=lambda colour: paint_distance(rgb, colour))


def held_out_looks(thing: ShapeObject) -> tuple[int | None, int | None]:
    """The shape that its colour, and the colour that its shape, is never trained with (None: none is).

    No training example can tell that they are not; so no loss may say so: these answers are left out of the
    choice, else a model learns "red is never a cross" and cannot see one.
    """
    colour = nearest_colour(thing.rgb) if thing.colour is None else thing.colour
    shape_kept = SHAPE_KEPT_FROM.get(colour)
    # A nameless paint on the far side of a named colour may have the shape that the named one lacks.
    return None if shape_kept == thing.shape else shape_kept, COLOUR_KEPT_FROM.get(thing.shape)


def sample_scene(rng: random.Random, recipe: SceneRecipe) -> tuple[ShapeObject, ...]:
    """Objects in drawing order (later ones cover earlier ones); at least one.

    A "train" scene holds no held-out pair, not even by chance of a random paint; a "test" scene holds at
    least one.
    """
    while True:
        crossing = recipe.video and rng.random() < recipe.crossing_share
        count = max(rng.choice(recipe.object_counts), 2 if crossing else 1)
        aspect = rng.choice(_ASPECTS) * rng.uniform(0.92, 1.08)
        objects: list[ShapeObject] = []
        for position in range(count):
            must_be_held_out = recipe.split == "test" and position < recipe.kept_objects
            for _ in range(40):
                must_move = crossing and position == 1
                candidate = _sample_object(rng, recipe, objects, aspect, must_be_held_out, must_move)
                if candidate is not None and all(_are_apart(candidate, other) for other in objects):
                    objects.append(candidate)
                    break
        if crossing:
            objects = _make_cross(rng, objects)
        has_test_pair = any(_is_held_out(o.colour, o.shape) for o in objects)
        if objects and (recipe.split == "train" or has_test_pair):
            rng.shuffle(objects)
            return tuple(objects)


def _is_held_out(colour: int | None, shape: int) -> bool:
    return (colour, shape) in HELD_OUT


def _sample_object(
    rng: random.Random,
    recipe: SceneRecipe,
    others: list[ShapeObject],
    aspect: float,
    must_be_held_out: bool,
    must_move: bool,
) -> ShapeObject | None:
    looks = _sample_looks(rng, recipe, others, must_be_held_out)
    if looks is None:
        return None
    colour, shape, rgb = looks
    radius = rng.uniform(*_RADII[rng.randrange(2)])
    if rng.random() < recipe.free_size_share:
        radius = rng.uniform(*_ANY_RADIUS)
    size = int(radius > LARGE_FROM_PX)
    motion = rng.randrange(len(_DIRECTION_XY) if must_move else len(MOTIONS)) if recipe.video else STILL
    growth = 1.0
    if motion == GROWING:
        growth = rng.uniform(1.45, 1.9)
        radius *= 0.85 if size else 1.0
    drawn = ShapeObject(
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
    return _place(rng, recipe, drawn)


def _sample_looks(
    rng: random.Random, recipe: SceneRecipe, others: list[ShapeObject], must_be_held_out: bool
) -> tuple[int | None, int, Rgb] | None:
    if must_be_held_out:
        colour, shape = rng.choice(sorted(HELD_OUT))
        return colour, shape, _paint(rng, colour)
    shape = others[-1].shape if others and rng.random() < 0.2 else rng.randrange(len(SHAPES))
    if rng.random() < recipe.unnamed_share:
        rgb = (rng.uniform(0, 255), rng.uniform(0, 255), rng.uniform(0, 255))
        kept = COLOUR_KEPT_FROM.get(shape)
        looks_held_out = kept is not None and paint_distance(rgb, kept) < _ALIKE
        return None if looks_held_out else (None, shape, rgb)
    colour = rng.randrange(len(COLOURS))
    if others and others[-1].colour is not None and rng.random() < 0.25:
        colour = others[-1].colour
    if recipe.split == "train" and _is_held_out(colour, shape):
        return None
    return colour, shape, _paint(rng, colour)


def _paint(rng: random.Random, colour: int) -> Rgb:
    red, green, blue = (min(255.0, max(0.0, v + rng.uniform(-14, 14))) for v in rng.choice(PALETTE[colour]))
    return red, green, blue


def _sample_rotation(rng: random.Random, shape: int) -> float:
    if rng.random() < 0.3:
        return 0.0  # as most programs draw
    # A square or a cross turned by 45 degrees, or a triangle on its tip, would be another shape.
    widest = {"star": 0.6, "hexagon": math.pi / 6}.get(SHAPES[shape], 0.22)
    return rng.uniform(-widest, widest)


def _place(rng: random.Random, recipe: SceneRecipe, drawn: ShapeObject) -> ShapeObject | None:
    """Give the object a place where it starts inside, and unless it leaves, also ends inside."""
    direction = _DIRECTION_XY.get(drawn.motion, (0.0, 0.0))
    way = rng.uniform(24, 60)
    leaves = drawn.motion in _DIRECTION_XY and rng.random() < recipe.leave_share
    starts: list[float] = []
    shifts: list[float] = []
    for axis in (0, 1):
        reach = drawn.radius_xy[axis] * drawn.growth + 1
        shift = direction[axis] * way
        low, high = reach, SIDE - reach
        if not leaves:
            low, high = reach + max(0.0, -shift), SIDE - reach - max(0.0, shift)
        if high <= low:
            return None
        start = rng.uniform(low, high)
        if leaves and direction[axis]:
            room = start if direction[axis] < 0 else SIDE - start
            shift = direction[axis] * (room + reach) * rng.uniform(1.1, 2.0)
        starts.append(start)
        shifts.append(shift)
    returns = drawn.motion in _DIRECTION_XY and rng.random() < recipe.return_share
    return replace(drawn, start_xy=(starts[0], starts[1]), shift_xy=(shifts[0], shifts[1]), returns=returns)


def _make_cross(rng: random.Random, objects: list[ShapeObject]) -> list[ShapeObject]:
    """Move one object so that another meets it on its way; as they were, where no try works."""
    movers = [thing for thing in objects if thing.motion in _DIRECTION_XY]
    for _ in range(40 if movers and len(objects) > 1 else 0):
        mover = rng.choice(movers)
        met = rng.choice([thing for thing in objects if thing is not mover])
        moment = rng.uniform(0.25, 0.75)
        (mx, my), (x, y) = mover.centre_at(moment), met.centre_at(moment)
        off = [rng.uniform(-0.4, 0.4) * radius for radius in met.radius_xy]
        start = (met.start_xy[0] + mx - x + off[0], met.start_xy[1] + my - y + off[1])
        moved = replace(met, start_xy=start)
        others = [thing for thing in objects if thing is not met]
        inside = all(r <= s <= SIDE - r for r, s in zip(met.radius_xy, start, strict=True))
        if inside and all(_gap(moved, other, 0.0) > 0.95 for other in others):
            return [*others, moved]
    return objects


def _are_apart(one: ShapeObject, other: ShapeObject) -> bool:
    """Hardly touching at the start; paths may cross, ends may touch."""
    start = _gap(one, other, 0.0)
    if one.motion == STILL and other.motion == STILL:
        return start > 0.95
    return start > 0.95 and _gap(one, other, 1.0) > 0.55


def _gap(one: ShapeObject, other: ShapeObject, progress: float) -> float:
    """Distance of the centres in sums of radii, axis by axis (1.0 = ellipses just touch)."""
    (ax, ay), (bx, by) = one.centre_at(progress), other.centre_at(progress)
    reach_x = one.radius_xy[0] * one.scale_at(progress) + other.radius_xy[0] * other.scale_at(progress)
    reach_y = one.radius_xy[1] * one.scale_at(progress) + other.radius_xy[1] * other.scale_at(progress)
    return math.hypot((ax - bx) / reach_x, (ay - by) / reach_y)
