"""Words for what is not there: absent kinds, present kinds of another size or motion. Strings only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sa2va_tools.training.expressions import MOVING, noun, plural
from sa2va_tools.training.world import COLOURS, HELD_OUT, SHAPES, SIZES, ShapeObject


@dataclass(frozen=True, slots=True)
class Denial:
    """What is asked for in vain (without an article), what the answer says there is none of, and why it is
    not there: no such "looks", or a "modifier" (a size, a motion, "all") that nothing fits."""

    asked: str
    denied: str
    kind: str


def deny(
    objects: Sequence[ShapeObject], rng: random.Random, *, video: bool, allow_held_out: bool
) -> Denial | None:
    """Something to ask for that is not there, or None when a few tries found nothing."""
    form = rng.random()
    if form < 0.7:
        words = absent(objects, rng, allow_held_out=allow_held_out)
        return None if words is None else Denial(words, words, "looks")
    if form < 0.8:
        return _no_such_kind(objects, rng)
    words = _wrong_motion(objects, rng) if video and form < 0.92 else _wrong_size(objects, rng)
    if words is None:
        # The modifier of a kind that is not there at all.
        base = absent(objects, rng, allow_held_out=allow_held_out)
        words = None if base is None else f"{rng.choice(SIZES)} {base}"
    return None if words is None else Denial(words, words, "modifier")


def absent(objects: Sequence[ShapeObject], rng: random.Random, *, allow_held_out: bool) -> str | None:
    """A noun that fits no object, half of the time nearly (the colour or the shape is there).

    Training never names a held-out pair, not even to deny it: the model would learn that it never is.
    """
    if any(o.colour is None for o in objects):
        return None
    for _ in range(10):
        colour, shape = rng.randrange(len(COLOURS)), rng.randrange(len(SHAPES))
        near = rng.random()
        if near < 0.35:
            colour = rng.choice(objects).colour or 0
        elif near < 0.7:
            shape = rng.choice(objects).shape
        form = rng.random()
        if form < 0.12 and all(o.shape != shape for o in objects):
            return SHAPES[shape]
        if form < 0.24 and all(o.colour != colour for o in objects):
            return f"{COLOURS[colour]} object"
        held_out = (colour, shape) in HELD_OUT
        if all((o.colour, o.shape) != (colour, shape) for o in objects) and (allow_held_out or not held_out):
            return f"{COLOURS[colour]} {SHAPES[shape]}"
    return None


def deny_motion(objects: Sequence[ShapeObject], rng: random.Random) -> Denial | None:
    """A kind that is there, moving as none of it does, or None where motions are not told."""
    words = _wrong_motion(objects, rng)
    return None if words is None else Denial(words, words, "modifier")


def _no_such_kind(objects: Sequence[ShapeObject], rng: random.Random) -> Denial | None:
    """`all stars`, `all red objects`."""
    if any(o.colour is None for o in objects):
        return None
    shapes = [word for k, word in enumerate(SHAPES) if all(o.shape != k for o in objects)]
    colours = [word for k, word in enumerate(COLOURS) if all(o.colour != k for o in objects)]
    if shapes and rng.random() < 0.6:
        word = rng.choice(shapes)
        return Denial(f"all {plural(word)}", word, "modifier")
    if not colours:
        return None
    word = rng.choice(colours)
    return Denial(f"all {word} {plural('object')}", f"{word} object", "modifier")


def _wrong_size(objects: Sequence[ShapeObject], rng: random.Random) -> str | None:
    """A kind that is there, of the size that it has not."""
    if any(o.colour is None or not o.size_is_clear for o in objects):
        return None
    thing = rng.choice(objects)
    alike = [o for o in objects if (o.colour, o.shape) == (thing.colour, thing.shape)]
    if any(o.size != thing.size for o in alike):
        return None
    return f"{SIZES[1 - thing.size]} {noun(thing, ('colour', 'shape'))}"


def _wrong_motion(objects: Sequence[ShapeObject], rng: random.Random) -> str | None:
    """A kind that is there, moving as none of it does."""
    if any(o.colour is None or o.turns_back for o in objects):
        return None
    thing = rng.choice(objects)
    attributes = rng.choice((("shape",), ("colour", "shape")))
    taken = {o.motion for o in objects if noun(o, attributes) == noun(thing, attributes)}
    free = [words for k, words in enumerate(MOVING) if k not in taken]
    return f"{noun(thing, attributes)} {rng.choice(free)}"
