"""The vocabulary and the objects of the world of shapes: coloured shapes that move over a square; and which
pairs of colour and shape are held out.

Coordinates are pixels of the square that the model sees, x to the right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SIDE = 128
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink")
SHAPES = ("circle", "square", "triangle", "star", "hexagon", "cross")
SIZES = ("small", "large")
MOTIONS = ("left", "right", "up", "down", "still", "growing")
STILL = MOTIONS.index("still")
GROWING = MOTIONS.index("growing")
DIRECTIONS_XY = {0: (-1.0, 0.0), 1: (1.0, 0.0), 2: (0.0, -1.0), 3: (0.0, 1.0)}
"""Unit vectors of the motions that change the position."""

# Several versions of each colour: our own, the pure one, the CSS ones, a dark and a pale one.
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
SIZE_RADII_PX = ((8.5, 12.5), (17.0, 23.0))
"""The smallest and the largest radius of "small" and of "large" objects."""
LARGE_FROM_PX = 14.75
"""The radius from which an object of any size is labelled large."""

HELD_OUT_NAMES = (
    ("red", "cross"),
    ("green", "star"),
    ("blue", "hexagon"),
    ("yellow", "triangle"),
    ("purple", "circle"),
    ("cyan", "square"),
)
"""Colour × shape pairs that no training scene of any stage contains: the exam tests on them whether the model
can combine what it knows. Each shape is held out once, and no colour twice."""
HELD_OUT = frozenset((COLOURS.index(colour), SHAPES.index(shape)) for colour, shape in HELD_OUT_NAMES)
HELD_OUT_SHAPE = dict(HELD_OUT)
"""Colour → the shape that it is held out with."""
HELD_OUT_COLOUR = {shape: colour for colour, shape in HELD_OUT}
"""Shape → the colour that it is held out with."""

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ShapeObject:
    """One shape. Indices point into COLOURS, SHAPES, SIZES and MOTIONS."""

    colour: int | None
    """None for a random colour without a name, about which nothing may be said or asked."""
    shape: int
    size: int
    motion: int
    rgb: Rgb
    radius_xy: tuple[float, float]
    """They differ if a frame of another aspect ratio is squeezed into the square."""
    rotation: float
    start_xy: tuple[float, float]
    shift_xy: tuple[float, float]
    """How far the centre moves during the clip."""
    growth: float = 1.0
    """The final scale."""
    returns: bool = False
    """Moves there and back during the clip."""
    style: float = 0.5
    """How the shape is drawn, 0 … 1: thin or thick arms, flat or steep sides."""

    @property
    def radius(self) -> float:
        return math.sqrt(self.radius_xy[0] * self.radius_xy[1])

    @property
    def has_clear_size(self) -> bool:
        """True if it is clearly small, or clearly large, during the whole clip."""
        return self.radius * self.growth <= SIZE_RADII_PX[0][1] or self.radius >= 0.85 * SIZE_RADII_PX[1][0]

    @property
    def turns_back(self) -> bool:
        """True if it moves in both directions, for which this world has no word."""
        return self.returns and self.motion in DIRECTIONS_XY

    def centre_at(self, progress: float) -> tuple[float, float]:
        """The centre after `progress` (0 … 1) of the clip."""
        share = 1 - abs(1 - 2 * progress) if self.returns else progress
        return self.start_xy[0] + self.shift_xy[0] * share, self.start_xy[1] + self.shift_xy[1] * share

    def scale_at(self, progress: float) -> float:
        """The scale after `progress` (0 … 1) of the clip."""
        return 1 + (self.growth - 1) * progress


Scene = Sequence[ShapeObject]
"""All objects, in drawing order: later ones cover earlier ones."""


def colour_distance(rgb: Rgb, colour: int) -> float:
    """The RGB distance to the closest version of the named colour."""
    return min(math.dist(rgb, version) for version in PALETTE[colour])


def is_held_out(obj: ShapeObject) -> bool:
    """True for an object that no training scene may contain."""
    return (obj.colour, obj.shape) in HELD_OUT


def find_untrained_labels(obj: ShapeObject) -> tuple[int | None, int | None]:
    """The shape with which the object's colour is held out, and the colour with which its shape is; None if
    there is none.

    No training example shows these pairs, so a loss must not push them down either: they are excluded from
    the classes to choose from. Otherwise a model learns "red is never a cross" and cannot recognize one.
    """
    colour = obj.colour
    if colour is None:
        colour = min(range(len(COLOURS)), key=lambda named: colour_distance(obj.rgb, named))
    shape = HELD_OUT_SHAPE.get(colour)
    # A nameless colour that is far enough from a named one may come with the shape that the named one lacks.
    return None if shape == obj.shape else shape, HELD_OUT_COLOUR.get(obj.shape)
