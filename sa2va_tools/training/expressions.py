"""Words for objects of the shape world: nouns and unique referring expressions. Strings only.

Every referring expression is checked to fit exactly one object, with room to spare where it compares.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sa2va_tools.training.world import (
    COLOURS,
    GROWING,
    MOTIONS,
    SHAPES,
    SIDE,
    SIZES,
    STILL,
    ShapeObject,
)

MOVING = (*(f"moving {direction}" for direction in MOTIONS[:4]), "standing still", "growing")

_ATTRIBUTE_SETS = (
    *(("colour", "shape"),) * 5,
    *(("shape",),) * 2,
    *(("colour",),) * 2,
    ("size", "colour", "shape"),
    ("size", "colour", "shape"),
    ("size", "shape"),
    ("size", "colour"),
    ("size",),
)
_MOTION_SETS = (
    ("motion",),
    ("motion", "colour"),
    ("motion", "shape"),
    ("motion", "shape"),
    ("motion", "colour", "shape"),
)
_CLEAR_PX = 12.0
_CLEAR_RADIUS_PX = 4.0


@dataclass(frozen=True, slots=True)
class Expression:
    """Words that fit one object, without an article, and what they rely on ("attributes", "motion", …)."""

    text: str
    kind: str


def noun(thing: ShapeObject, attributes: Sequence[str]) -> str:
    """`large red circle`, `red object`, `circle`, `circle moving left`: the named attributes only."""
    words = []
    if "size" in attributes:
        words.append(SIZES[thing.size])
    if "colour" in attributes and thing.colour is not None:
        words.append(COLOURS[thing.colour])
    words.append(SHAPES[thing.shape] if "shape" in attributes else "object")
    if "motion" in attributes:
        words.append(MOVING[thing.motion])
    return " ".join(words)


def with_article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def plural(word: str) -> str:
    return word + ("es" if word.endswith("s") else "s")


def single_out(objects: Sequence[ShapeObject], index: int, attributes: Sequence[str]) -> str | None:
    """The noun with these attributes, if it fits object `index` alone."""
    thing = objects[index]
    if "colour" in attributes and thing.colour is None:
        return None
    if "size" in attributes and not all(o.size_is_clear for o in objects):
        return None
    if "motion" in attributes and not _tell_motions_apart(objects, thing):
        return None
    values = [getattr(thing, name) for name in attributes]
    fitting = [o for o in objects if [getattr(o, name) for name in attributes] == values]
    # A random paint has no name, but it may look like one.
    unsure = "colour" in attributes and any(o.colour is None for o in objects)
    return noun(thing, attributes) if len(fitting) == 1 and not unsure else None


def _tell_motions_apart(objects: Sequence[ShapeObject], thing: ShapeObject) -> bool:
    """What turns back has no name for it, and what grows on the spot may pass for standing still."""
    if any(o.turns_back for o in objects):
        return False
    return thing.motion != STILL or all(o.motion != GROWING for o in objects)


def refer(
    objects: Sequence[ShapeObject], index: int, rng: random.Random, *, video: bool
) -> Expression | None:
    """An expression for object `index` alone, or None when a few tries found none."""
    for _ in range(5):
        kind = rng.random()
        if video and kind < 0.4:
            text = single_out(objects, index, rng.choice(_MOTION_SETS))
            found = Expression(text, "motion") if text else None
        elif video or kind < 0.62 or len(objects) == 1:
            text = single_out(objects, index, rng.choice(_ATTRIBUTE_SETS))
            found = Expression(text, "attributes") if text else None
        elif kind < 0.9:
            found = _compare(objects, index, rng)
        else:
            found = _relate(objects, index, rng)
        if found is not None:
            return found
    return None


def _compare(objects: Sequence[ShapeObject], index: int, rng: random.Random) -> Expression | None:
    """`largest circle`, `leftmost object`, `red object on the left`."""
    thing = objects[index]
    base_set = rng.choice(((), ("shape",), ("colour",), ("colour", "shape")))
    if "colour" in base_set and any(o.colour is None for o in objects):
        return None
    base = noun(thing, base_set)
    rivals = [o for o in objects if o is not thing and noun(o, base_set) == base]
    if not rivals:
        return None
    (x, y), low, high = thing.start_xy, SIDE * 0.46, SIDE * 0.54
    xs, ys = ([rival.start_xy[axis] for rival in rivals] for axis in (0, 1))
    choices: list[tuple[str, Callable[[ShapeObject], float], float, bool]] = [
        (f"leftmost {base}", lambda o: -o.start_xy[0], _CLEAR_PX, True),
        (f"rightmost {base}", lambda o: o.start_xy[0], _CLEAR_PX, True),
        (f"topmost {base}", lambda o: -o.start_xy[1], _CLEAR_PX, True),
        (f"bottommost {base}", lambda o: o.start_xy[1], _CLEAR_PX, True),
        (f"{base} on the left", lambda o: -o.start_xy[0], _CLEAR_PX, x < low and all(r > high for r in xs)),
        (f"{base} on the right", lambda o: o.start_xy[0], _CLEAR_PX, x > high and all(r < low for r in xs)),
        (f"{base} at the top", lambda o: -o.start_xy[1], _CLEAR_PX, y < low and all(r > high for r in ys)),
        (f"{base} at the bottom", lambda o: o.start_xy[1], _CLEAR_PX, y > high and all(r < low for r in ys)),
        (f"largest {base}", lambda o: o.radius, _CLEAR_RADIUS_PX, True),
        (f"biggest {base}", lambda o: o.radius, _CLEAR_RADIUS_PX, True),
        (f"smallest {base}", lambda o: -o.radius, _CLEAR_RADIUS_PX, True),
    ]
    rng.shuffle(choices)
    for text, value, clear, holds in choices:
        if holds and value(thing) > max(map(value, rivals)) + clear:
            kind = "size order" if clear == _CLEAR_RADIUS_PX else "place"
            return Expression(text, kind)
    return None


def _relate(objects: Sequence[ShapeObject], index: int, rng: random.Random) -> Expression | None:
    """`circle to the left of the red star`, `object above the blue square`."""
    thing = objects[index]
    anchor = rng.choice([i for i in range(len(objects)) if i != index])
    landmark = single_out(objects, anchor, ("colour", "shape"))
    base = noun(thing, rng.choice(((), ("shape",), ("shape",))))
    if landmark is None:
        return None
    choices = [
        ("to the left of", 0, -1.0),
        ("to the right of", 0, 1.0),
        ("above", 1, -1.0),
        ("below", 1, 1.0),
    ]
    rng.shuffle(choices)
    for words, axis, side in choices:
        ways = [side * (o.start_xy[axis] - objects[anchor].start_xy[axis]) for o in objects]
        rivals = [
            way
            for i, (way, o) in enumerate(zip(ways, objects, strict=True))
            if i not in (index, anchor) and (base == "object" or base == SHAPES[o.shape])
        ]
        if ways[index] > _CLEAR_PX and all(way < -_CLEAR_PX / 3 for way in rivals):
            return Expression(f"{base} {words} the {landmark}", "relation")
    return None


def place_of(thing: ShapeObject) -> str | None:
    """`in the middle`, `on the left`, …; None near the diagonals, where it could be said either way."""
    dx, dy = thing.start_xy[0] - SIDE / 2, thing.start_xy[1] - SIDE / 2
    if max(abs(dx), abs(dy)) < 16:
        return "in the middle"
    if abs(abs(dx) - abs(dy)) < 8 or max(abs(dx), abs(dy)) < 22:
        return None
    if abs(dx) > abs(dy):
        return "on the left" if dx < 0 else "on the right"
    return "at the top" if dy < 0 else "at the bottom"
