"""Words for objects: noun phrases, unique referring expressions, and phrases for absent objects.

Every referring expression is checked to fit exactly one object; comparisons hold by a clear margin.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sa2va_tools.nano.world import scenes
from sa2va_tools.nano.world.scenes import COLOURS, SHAPES, SIDE, SIZES, Scene, ShapeObject

MOTION_PHRASES = (*(f"moving {direction}" for direction in scenes.MOTIONS[:4]), "standing still", "growing")
"""One per motion."""

# Often chosen sets stand several times.
_ATTRIBUTE_SETS = (
    *(("colour", "shape"),) * 5,
    *(("shape",),) * 2,
    *(("colour",),) * 2,
    *(("size", "colour", "shape"),) * 2,
    *(("size", "shape"), ("size", "colour"), ("size",)),
)
_MOTION_SETS = (("motion",), ("motion", "colour"), *(("motion", "shape"),) * 2, ("motion", "colour", "shape"))
_COMPARISONS = (
    ("leftmost {}", "x", -1),
    ("rightmost {}", "x", 1),
    ("topmost {}", "y", -1),
    ("bottommost {}", "y", 1),
    ("{} on the left", "x", -1),
    ("{} on the right", "x", 1),
    ("{} at the top", "y", -1),
    ("{} at the bottom", "y", 1),
    ("largest {}", "radius", 1),
    ("biggest {}", "radius", 1),
    ("smallest {}", "radius", -1),
)
"""Words, and which measure is the largest (1) or the smallest (-1) of all."""
_RELATIONS = (("to the left of", 0, -1), ("to the right of", 0, 1), ("above", 1, -1), ("below", 1, 1))
"""Words, axis, and the sign of the distance from the other object."""
_MARGIN_PX = 12.0
_RADIUS_MARGIN_PX = 4.0
_TRIES = 5
_ABSENT_TRIES = 10


@dataclass(frozen=True, slots=True)
class Expression:
    """Words that fit one object, without an article, and what they rely on."""

    text: str
    kind: str
    """"attributes", "motion", "place", "size order" or "relation"."""


@dataclass(frozen=True, slots=True)
class AbsentTarget:
    """What a request asks for although it is not there."""

    expression: str
    """As asked for, without an article."""
    denied: str
    """What the answer says there is none of."""
    kind: str
    """"looks" if nothing has these looks, "modifier" if only a size, a motion or "all" does not fit."""


def noun_phrase(obj: ShapeObject, attributes: Sequence[str]) -> str:
    """The named attributes in words: `large red circle`, `red object`, `circle moving left`."""
    words = []
    if "size" in attributes:
        words.append(SIZES[obj.size])
    if "colour" in attributes and obj.colour is not None:
        words.append(COLOURS[obj.colour])
    words.append(SHAPES[obj.shape] if "shape" in attributes else "object")
    if "motion" in attributes:
        words.append(MOTION_PHRASES[obj.motion])
    return " ".join(words)


def add_article(phrase: str) -> str:
    """`a red circle`, `an object`."""
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def pluralize(noun: str) -> str:
    """`circles`, `crosses`."""
    return noun + ("es" if noun.endswith("s") else "s")


def describe_place(obj: ShapeObject) -> str | None:
    """`in the middle`, `on the left`, …; None near the diagonals, where two answers would be right."""
    dx = obj.start_xy[0] - SIDE / 2
    dy = obj.start_xy[1] - SIDE / 2
    if max(abs(dx), abs(dy)) < 16:
        return "in the middle"
    if abs(abs(dx) - abs(dy)) < 8 or max(abs(dx), abs(dy)) < 22:
        return None
    if abs(dx) > abs(dy):
        return "on the left" if dx < 0 else "on the right"
    return "at the top" if dy < 0 else "at the bottom"


def unique_phrase(objects: Scene, index: int, attributes: Sequence[str]) -> str | None:
    """The noun phrase of object `index` with these attributes, or None unless it fits that object only."""
    obj = objects[index]
    # An object without a colour name may still look like the named colour.
    if "colour" in attributes and any(other.colour is None for other in objects):
        return None
    if "size" in attributes and not all(other.has_clear_size for other in objects):
        return None
    if "motion" in attributes and not _has_clear_motion(objects, obj):
        return None
    values = [getattr(obj, name) for name in attributes]
    fitting = [other for other in objects if [getattr(other, name) for name in attributes] == values]
    return noun_phrase(obj, attributes) if len(fitting) == 1 else None


def _has_clear_motion(objects: Scene, obj: ShapeObject) -> bool:
    """There is no word for turning back, and a growing object may be taken for one that stands still."""
    if any(other.turns_back for other in objects):
        return False
    return obj.motion != scenes.STILL or all(other.motion != scenes.GROWING for other in objects)


def sample_expression(objects: Scene, index: int, rng: random.Random, *, video: bool) -> Expression | None:
    """A random expression for object `index` only, or None if a few attempts fail."""
    for _ in range(_TRIES):
        choice = rng.random()
        if video or choice < 0.62 or len(objects) == 1:
            with_motion = video and choice < 0.4
            text = unique_phrase(objects, index, rng.choice(_MOTION_SETS if with_motion else _ATTRIBUTE_SETS))
            found = Expression(text, "motion" if with_motion else "attributes") if text else None
        elif choice < 0.9:
            found = _sample_comparison(objects, index, rng)
        else:
            found = _sample_relation(objects, index, rng)
        if found is not None:
            return found
    return None


def _sample_comparison(objects: Scene, index: int, rng: random.Random) -> Expression | None:
    """`largest circle`, `leftmost object`, `red object on the left`."""
    obj = objects[index]
    attributes = rng.choice(((), ("shape",), ("colour",), ("colour", "shape")))
    if "colour" in attributes and any(other.colour is None for other in objects):
        return None
    base = noun_phrase(obj, attributes)
    rivals = [other for other in objects if other is not obj and noun_phrase(other, attributes) == base]
    if not rivals:
        return None
    comparisons = list(_COMPARISONS)
    rng.shuffle(comparisons)
    for words, measure, sign in comparisons:
        own = sign * _measure(obj, measure)
        best_rival = max(sign * _measure(rival, measure) for rival in rivals)
        margin = _RADIUS_MARGIN_PX if measure == "radius" else _MARGIN_PX
        # "On the left": the object is clearly in this half of the picture, and all others are in the other.
        near, far = sorted((sign * SIDE * 0.46, sign * SIDE * 0.54))
        is_alone = own > far and best_rival < near
        if own > best_rival + margin and (is_alone or not words.startswith("{}")):
            return Expression(words.format(base), "size order" if measure == "radius" else "place")
    return None


def _measure(obj: ShapeObject, measure: str) -> float:
    return {"x": obj.start_xy[0], "y": obj.start_xy[1], "radius": obj.radius}[measure]


def _sample_relation(objects: Scene, index: int, rng: random.Random) -> Expression | None:
    """`circle to the left of the red star`, `object above the blue square`."""
    anchor = rng.choice([i for i in range(len(objects)) if i != index])
    landmark = unique_phrase(objects, anchor, ("colour", "shape"))
    base = noun_phrase(objects[index], rng.choice(((), ("shape",), ("shape",))))
    if landmark is None:
        return None
    relations = list(_RELATIONS)
    rng.shuffle(relations)
    for words, axis, sign in relations:
        offsets = [sign * (other.start_xy[axis] - objects[anchor].start_xy[axis]) for other in objects]
        rivals = [
            offsets[i]
            for i, other in enumerate(objects)
            if i not in (index, anchor) and base in ("object", SHAPES[other.shape])
        ]
        if offsets[index] > _MARGIN_PX and all(offset < -_MARGIN_PX / 3 for offset in rivals):
            return Expression(f"{base} {words} the {landmark}", "relation")
    return None


def sample_absent_target(
    objects: Scene, rng: random.Random, *, video: bool, allow_held_out: bool
) -> AbsentTarget | None:
    """Something that is not there, or None if a few attempts find nothing."""
    choice = rng.random()
    if choice < 0.7:
        phrase = sample_absent_phrase(objects, rng, allow_held_out=allow_held_out)
        return AbsentTarget(phrase, phrase, "looks") if phrase else None
    if choice < 0.8:
        return _sample_absent_kind(objects, rng)
    phrase = (sample_absent_motion if video and choice < 0.92 else _sample_absent_size)(objects, rng)
    if phrase is None:
        # A size of a kind that is not there at all.
        base = sample_absent_phrase(objects, rng, allow_held_out=allow_held_out)
        phrase = f"{rng.choice(SIZES)} {base}" if base else None
    return AbsentTarget(phrase, phrase, "modifier") if phrase else None


def sample_absent_phrase(objects: Scene, rng: random.Random, *, allow_held_out: bool) -> str | None:
    """A noun phrase that fits no object, but often shares the colour or the shape with one.

    Training never names a held-out pair, not even as absent: the model would learn that it never exists.
    """
    if any(obj.colour is None for obj in objects):
        return None
    for _ in range(_ABSENT_TRIES):
        colour = rng.randrange(len(COLOURS))
        shape = rng.randrange(len(SHAPES))
        shared = rng.random()
        if shared < 0.35:
            colour = rng.choice(objects).colour or 0
        elif shared < 0.7:
            shape = rng.choice(objects).shape
        form = rng.random()
        if form < 0.12 and all(obj.shape != shape for obj in objects):
            return SHAPES[shape]
        if form < 0.24 and all(obj.colour != colour for obj in objects):
            return f"{COLOURS[colour]} object"
        is_absent = all((obj.colour, obj.shape) != (colour, shape) for obj in objects)
        if is_absent and (allow_held_out or (colour, shape) not in scenes.HELD_OUT):
            return f"{COLOURS[colour]} {SHAPES[shape]}"
    return None


def _sample_absent_kind(objects: Scene, rng: random.Random) -> AbsentTarget | None:
    """`all stars`, `all red objects`."""
    if any(obj.colour is None for obj in objects):
        return None
    shapes = [word for k, word in enumerate(SHAPES) if all(obj.shape != k for obj in objects)]
    colours = [word for k, word in enumerate(COLOURS) if all(obj.colour != k for obj in objects)]
    if shapes and rng.random() < 0.6:
        denied = rng.choice(shapes)
    elif colours:
        denied = f"{rng.choice(colours)} object"
    else:
        return None
    return AbsentTarget(f"all {pluralize(denied)}", denied, "modifier")


def _sample_absent_size(objects: Scene, rng: random.Random) -> str | None:
    """A kind that is there, with the other size."""
    if any(obj.colour is None or not obj.has_clear_size for obj in objects):
        return None
    obj = rng.choice(objects)
    same_kind = [other for other in objects if (other.colour, other.shape) == (obj.colour, obj.shape)]
    if any(other.size != obj.size for other in same_kind):
        return None
    return f"{SIZES[1 - obj.size]} {noun_phrase(obj, ('colour', 'shape'))}"


def sample_absent_motion(objects: Scene, rng: random.Random) -> str | None:
    """A kind that is there, with a motion that none of that kind has; None if motions have no clear words."""
    if any(obj.colour is None or obj.turns_back for obj in objects):
        return None
    obj = rng.choice(objects)
    attributes = rng.choice((("shape",), ("colour", "shape")))
    kind = noun_phrase(obj, attributes)
    present = {other.motion for other in objects if noun_phrase(other, attributes) == kind}
    absent = [phrase for motion, phrase in enumerate(MOTION_PHRASES) if motion not in present]
    return f"{kind} {rng.choice(absent)}"
