"""A question about a scene with its answer, and which object each part of the answer is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MOTION_WORDS = re.compile(r" (moving|standing|growing|left|right|up|down)(?=[ .<,])")

Mentions = tuple[tuple[int, int], ...]
"""(character of the answer, object): from this character on, the answer is about this object."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer. The question contains `<image>`, as the prompt templates expect.

    Objects are given by their index in the scene.
    """

    task: str
    kind: str
    """What kind of expression or question it is; the exam reports kinds separately."""
    question: str
    answer: str
    segments: tuple[int, ...] = ()
    """The object of each `[SEG]` in the answer, in order."""
    regions: tuple[int, ...] = ()
    """The objects that the question marks as regions."""
    mentions: Mentions = ()
    """Where the answer begins to be about an object, and its words about the looks of that object."""
    counted: tuple[int, ...] = ()
    """The objects that the answer's number counts."""
    subject: str = ""
    """The words of the question that fit the first mentioned object only."""

    @property
    def movements(self) -> Mentions:
        """Like `mentions`, of words about the motion of objects."""
        found = []
        for match in _MOTION_WORDS.finditer(self.answer):
            mentioned = [index for character, index in self.mentions if character <= match.start()]
            if mentioned:
                found.append((match.start(), mentioned[-1]))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class TurnRules:
    """How questions are asked."""

    video: bool
    vary: bool = True
    """Paraphrase the published wording."""
    targets: tuple[int, ...] | None = None
    """The objects that may be asked about; None: all."""
    allow_held_out: bool = False
    """Held-out pairs may be named as absent; only an exam may do that."""

    @property
    def media(self) -> str:
        return "video" if self.video else "image"


@dataclass(frozen=True, slots=True)
class Item:
    """An object in a list: its phrase, and what follows the phrase."""

    phrase: str
    index: int
    ending: str = ""


def join_items(start: str, items: Sequence[Item]) -> tuple[str, Mentions]:
    """`start A, B and C.`, and where the text mentions each object."""
    text = start
    mentions: list[tuple[int, int]] = []
    for number, item in enumerate(items):
        if number:
            text += " and " if number == len(items) - 1 else ", "
        mentions += [(len(text) + character, item.index) for character in find_words(item.phrase)]
        text += item.phrase + item.ending
    return text + ".", tuple(mentions)


def find_words(phrase: str) -> list[int]:
    """The characters at which the words of a noun phrase begin, without its article and its motion (see
    `Turn.movements`); a word begins at the space before it. If nothing is left, the beginning of the
    phrase."""
    looks = _MOTION_WORDS.split(phrase + " ", 1)[0].rstrip()
    return [character for character, letter in enumerate(looks) if letter == " "] or [0]
