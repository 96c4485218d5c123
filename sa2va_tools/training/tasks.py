"""Questions and answers about a scene: the five abilities of Sa2VA in the shape world's words.

A turn's question starts with `<image>`, as the prompt builder wants it. It knows nothing of tokens.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sa2va_tools.model.prompt import (
    CAPTION_REGION,
    DESCRIBE_IMAGE,
    DESCRIBE_VIDEO,
    GROUND_IMAGE,
    GROUND_SUFFIX,
    GROUND_VIDEO,
    IMAGE,
    chat_question,
    segment_question,
)
from sa2va_tools.training.absence import absent, deny, deny_motion
from sa2va_tools.training.expressions import (
    MOVING,
    noun,
    place_of,
    plural,
    refer,
    single_out,
    with_article,
)
from sa2va_tools.training.wording import (
    DESCRIBE,
    FOUND,
    FOUND_SEVERAL,
    REGION,
    SEGMENT_IMAGE,
    SEGMENT_VIDEO,
)
from sa2va_tools.training.world import COLOURS, SHAPES, SIZES, ShapeObject

IMAGE_TASKS = (
    *("refer",) * 6, *("several",) * 2, *("refuse",) * 3, *("ground",) * 2, *("describe",) * 2,
    *("region",) * 3, *("count",) * 3, *("exists",) * 2, *("attribute",) * 6, *("where",) * 3,
)  # fmt: skip
VIDEO_TASKS = (
    *("refer",) * 7, *("several",) * 2, *("refuse",) * 2, *("ground",) * 2, *("describe",) * 2,
    *("count",) * 2, "exists", *("attribute",) * 4, *("motion",) * 5,
)  # fmt: skip

ONE_WORD_ANSWERS = frozenset(("count", "exists", "attribute", "where", "motion"))
"""Tasks whose answers hold one word that counts, where others hold many."""

_MOTION_WORDS = re.compile(r" (moving|standing|growing|left|right|up|down)(?=[ .<,])")


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer.

    `segments` are the objects of the answer's `[SEG]` tokens in order, `regions` those that the question
    marks; `mentions` are (character of the answer, object): from there on the answer speaks of it; `counted`
    are the objects that the answer's number counts; `subject` are the words of the question that fit the
    first mentioned object alone;
    `movements` likewise stand before the words of its motion.
    """

    task: str
    kind: str
    question: str
    answer: str
    segments: tuple[int, ...] = ()
    regions: tuple[int, ...] = ()
    mentions: tuple[tuple[int, int], ...] = ()
    counted: tuple[int, ...] = ()
    subject: str = ""

    @property
    def movements(self) -> tuple[tuple[int, int], ...]:
        found = []
        for motion in _MOTION_WORDS.finditer(self.answer):
            spoken = [thing for character, thing in self.mentions if character <= motion.start()]
            if spoken:
                found.append((motion.start(), spoken[-1]))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class TurnRules:
    """How freely to ask. `vary` uses paraphrases beside the published wording; `targets` are the objects that
    may be asked about (None: all); `allow_held_out` lets held-out pairs be denied, as only an exam may."""

    video: bool
    vary: bool = True
    targets: tuple[int, ...] | None = None
    allow_held_out: bool = False


def sample_turns(
    objects: Sequence[ShapeObject], rng: random.Random, count: int, tasks: Sequence[str], rules: TurnRules
) -> list[Turn]:
    """Up to `count` turns of tasks drawn from `tasks`; fewer when the scene allows no more."""
    turns: list[Turn] = []
    for _ in range(count * 4):
        made = make_turn(objects, rng, rng.choice(tasks), rules)
        if made is not None:
            turns.append(made)
        if len(turns) == count:
            break
    return turns


def make_turn(objects: Sequence[ShapeObject], rng: random.Random, task: str, rules: TurnRules) -> Turn | None:
    """A turn of that task, or None when this scene has none."""
    index = rng.choice(rules.targets or range(len(objects)))
    return _MAKERS[task](objects, index, rng, rules)


def _refer(objects: Sequence[ShapeObject], index: int, rng: random.Random, rules: TurnRules) -> Turn | None:
    found = refer(objects, index, rng, video=rules.video)
    if found is None:
        return None
    question = _segment(found.text, rng, rules)
    mentions = ((0, index),)
    return Turn("refer", found.kind, question, FOUND, (index,), mentions=mentions, subject=found.text)


def _several(objects: Sequence[ShapeObject], index: int, rng: random.Random, rules: TurnRules) -> Turn | None:
    """All of a kind, or two that are named; one `[SEG]` each, from left to right or as named."""
    thing, form = objects[index], rng.random()
    order = sorted(range(len(objects)), key=lambda i: objects[i].start_xy[0])
    if form < 0.3 and len(objects) > 1:
        other = rng.choice([i for i in order if i != index])
        nouns = [single_out(objects, i, ("colour", "shape")) for i in (index, other)]
        if None in nouns:
            return None
        words, chosen = f"{nouns[0]} and the {nouns[1]}", [index, other]
    elif form < 0.5:
        words, chosen = f"all {plural('object')}", order
    elif form < 0.75 or any(o.colour is None for o in objects):
        words, chosen = (
            f"all {plural(SHAPES[thing.shape])}",
            [i for i in order if objects[i].shape == thing.shape],
        )
    else:
        words = f"all {COLOURS[thing.colour or 0]} {plural('object')}"
        chosen = [i for i in order if objects[i].colour == thing.colour]
    the = words if words.startswith("all ") else f"the {words}"
    answer = FOUND
    mentions: tuple[tuple[int, int], ...] = ((0, chosen[0]),)
    if len(chosen) > 1:
        answer, mentions = _enumerate(FOUND_SEVERAL, [("[SEG]", "", i) for i in chosen])
    question = segment_question(the, video=rules.video)
    if rules.vary and rng.random() < 0.4:
        question = chat_question(rng.choice(("Segment {the}.", "Please segment {the}.")).format(the=the))
    return Turn("several", "several", question, answer, tuple(chosen), mentions=mentions)


def _refuse(
    objects: Sequence[ShapeObject], _: int, rng: random.Random, rules: TurnRules, *, motion: bool = False
) -> Turn | None:
    if motion:
        denial = deny_motion(objects, rng) if rules.video else None
    else:
        denial = deny(objects, rng, video=rules.video, allow_held_out=rules.allow_held_out)
    if denial is None:
        return None
    question = _segment(denial.asked, rng, rules)
    if denial.asked.startswith("all "):
        question = segment_question(denial.asked, video=rules.video)
    return Turn("refuse", denial.kind, question, f"There is no {denial.denied}.")


def _segment(words: str, rng: random.Random, rules: TurnRules) -> str:
    the = f"the {words}"
    article = rng.random()
    if rules.vary and article < 0.3:
        the = words if article < 0.2 else with_article(words)
    if rules.vary and rng.random() < 0.08:
        the = the[0].upper() + the[1:]
    form = rng.random()
    if not rules.vary or form < 0.45:
        return segment_question(the, video=rules.video)
    if form < 0.55:
        return segment_question(rng.choice((f"Where is {the}?", f"Which one is {the}?")), video=rules.video)
    pattern = rng.choice(SEGMENT_VIDEO if rules.video else SEGMENT_IMAGE)
    return chat_question(pattern.format(the=the))


def _ground(objects: Sequence[ShapeObject], _: int, rng: random.Random, rules: TurnRules) -> Turn | None:
    parts = _phrases(objects, rules)
    if parts is None:
        return None
    question = GROUND_VIDEO if rules.video else GROUND_IMAGE
    if rules.vary and rng.random() < 0.3:
        kind = "video" if rules.video else "image"
        question = f"{rng.choice(DESCRIBE).format(kind=kind)} {GROUND_SUFFIX}"
    answer, mentions = _enumerate("", [(f"<p>{words}", "</p> [SEG]", i) for words, i in parts])
    segments = tuple(i for _, i in parts)
    return Turn("ground", "ground", chat_question(question), answer, segments, mentions=mentions)


def _describe(objects: Sequence[ShapeObject], _: int, rng: random.Random, rules: TurnRules) -> Turn | None:
    parts = _phrases(objects, rules)
    if parts is None:
        return None
    question = DESCRIBE_VIDEO if rules.video else DESCRIBE_IMAGE
    if rules.vary and rng.random() < 0.5:
        question = rng.choice(DESCRIBE).format(kind="video" if rules.video else "image")
    answer, mentions = _enumerate("There is ", [(words, "", i) for words, i in parts])
    return Turn("describe", "describe", chat_question(question), answer, mentions=mentions)


def _phrases(objects: Sequence[ShapeObject], rules: TurnRules) -> list[tuple[str, int]] | None:
    """(`a red circle`, object) from left to right; None when an object cannot be named."""
    if any(o.colour is None or (rules.video and o.turns_back) for o in objects):
        return None
    attributes = ("colour", "shape", "motion") if rules.video else ("colour", "shape")
    order = sorted(range(len(objects)), key=lambda i: objects[i].start_xy[0])
    return [(with_article(noun(objects[i], attributes)), i) for i in order]


def _enumerate(start: str, parts: Sequence[tuple[str, str, int]]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """`start A, B and C.` of (words, ending, object), and where each object's description begins."""
    text, mentions = start, []
    for number, (words, ending, index) in enumerate(parts):
        if number:
            text += " and " if number == len(parts) - 1 else ", "
        mentions += [(len(text) + place, index) for place in _content(words)]
        text += words + ending
    return text + ".", tuple(mentions)


def _content(words: str) -> list[int]:
    """Where each word of a noun phrase begins, but for the article and for a motion (see `movements`); the
    space before a word belongs to it. Without an article, where the phrase begins."""
    looks = _MOTION_WORDS.split(words + " ", 1)[0].rstrip()
    return [place for place, letter in enumerate(looks) if letter == " "] or [0]


def _region(objects: Sequence[ShapeObject], index: int, rng: random.Random, rules: TurnRules) -> Turn | None:
    if rules.video or objects[index].colour is None or not objects[index].size_is_clear:
        return None
    regions, number = [index], 1
    if rules.vary and len(objects) > 1 and rng.random() < 0.15:
        regions = [index, rng.choice([i for i in range(len(objects)) if i != index])]
        rng.shuffle(regions)
        number = regions.index(index) + 1
    words = with_article(noun(objects[index], ("size", "colour", "shape")))
    form = rng.choice(REGION) if rules.vary else CAPTION_REGION
    # No line break: the sentence that marks the regions ends with one.
    question = IMAGE + form.replace("region1", "region{number}").format(number=number)
    answer = words[0].upper() + words[1:] + "."
    mentions = tuple((place, index) for place in _content(words))
    return Turn("region", "region", question, answer, (), tuple(regions), mentions)


def _count(objects: Sequence[ShapeObject], index: int, rng: random.Random, rules: TurnRules) -> Turn | None:
    form, everything = rng.random(), range(len(objects))
    if form < 0.35:
        return _number(plural("object"), list(everything), rng, rules)
    if form < 0.68:
        shape = objects[index].shape if rng.random() < 0.7 else rng.randrange(len(SHAPES))
        alike = [i for i in everything if objects[i].shape == shape]
        return _number(plural(SHAPES[shape]), alike, rng, rules)
    if any(o.colour is None for o in objects):
        return None
    if form < 0.87:
        thing = objects[index]
        alike = [
            i for i in everything if (objects[i].colour, objects[i].shape) == (thing.colour, thing.shape)
        ]
        return _number(f"{COLOURS[thing.colour or 0]} {plural(SHAPES[thing.shape])}", alike, rng, rules)
    colour = objects[index].colour if rng.random() < 0.7 else rng.randrange(len(COLOURS))
    alike = [i for i in everything if objects[i].colour == colour]
    return _number(f"{COLOURS[colour or 0]} {plural('object')}", alike, rng, rules)


def _number(words: str, counted: list[int], rng: random.Random, rules: TurnRules) -> Turn:
    form = "How many {} are there?"
    if rules.vary and rng.random() < 0.3:
        kind = "video" if rules.video else "image"
        form = rng.choice((f"How many {{}} are in the {kind}?", "How many {} do you see?", "Count the {}."))
    question = chat_question(form.format(words))
    return Turn("count", "count", question, f"{len(counted)}.", counted=tuple(counted))


def _exists(objects: Sequence[ShapeObject], index: int, rng: random.Random, rules: TurnRules) -> Turn | None:
    if any(o.colour is None for o in objects):
        return None
    known = rng.choice((("shape",), ("colour",), *(("colour", "shape"),) * 6))
    words, answer = noun(objects[index], known), "Yes, there is."
    mentions: tuple[tuple[int, int], ...] = ((0, index),)
    if rng.random() < 0.5:
        missing = absent(objects, rng, allow_held_out=rules.allow_held_out)
        if missing is None:
            return None
        words, answer, mentions = missing, "No, there is not.", ()
    form = "Is there {}?"
    if rules.vary and rng.random() < 0.3:
        kind = "video" if rules.video else "image"
        form = rng.choice((f"Is there {{}} in the {kind}?", "Do you see {}?", "Can you see {}?"))
    question = chat_question(form.format(with_article(words)))
    return Turn("exists", "exists", question, answer, mentions=mentions)


def _attribute(
    objects: Sequence[ShapeObject], index: int, rng: random.Random, rules: TurnRules
) -> Turn | None:
    """Of a nameless paint the shape alone can be asked, and it teaches shapes that no colour tells of."""
    thing = objects[index]
    asked = rng.choice(("colour", "colour", "shape", "shape", "shape", "shape", "size"))
    known = {
        "colour": rng.choice((("shape",), ("shape",), ("size", "shape"))),
        "shape": rng.choice((("colour",), ("colour",), ("size", "colour"), ("size",))),
        "size": ("colour", "shape"),
    }[asked]
    if thing.colour is None:
        asked, known = "shape", ("size",)
    words = single_out(objects, index, known)
    if words is None or (asked == "size" and not thing.size_is_clear):
        return None
    colour_forms = [f"What color is the {words}?", f"What colour is the {words}?"]
    if rules.vary:
        colour_forms.append(f"What is the color of the {words}?")
    question, answer = {
        "colour": (rng.choice(colour_forms), f"It is {COLOURS[thing.colour or 0]}."),
        "shape": (f"What shape is the {words}?", f"It is {with_article(SHAPES[thing.shape])}."),
        "size": (f"Is the {words} small or large?", f"It is {SIZES[thing.size]}."),
    }[asked]  # fmt: skip
    mentions = ((0, index), (answer.rindex(" "), index))
    return Turn("attribute", asked, chat_question(question), answer, mentions=mentions, subject=words)


def _where(objects: Sequence[ShapeObject], index: int, rng: random.Random, rules: TurnRules) -> Turn | None:
    place = place_of(objects[index])
    words = single_out(objects, index, rng.choice((("colour", "shape"), ("shape",), ("colour",))))
    if place is None or words is None or rules.video:
        return None
    question = chat_question(f"Where is the {words}?")
    answer = f"It is {place}."
    mentions = ((0, index), (5, index), (answer.rindex(" "), index))
    return Turn("where", "where", question, answer, mentions=mentions, subject=words)


def _motion(objects: Sequence[ShapeObject], index: int, rng: random.Random, rules: TurnRules) -> Turn | None:
    words = single_out(objects, index, rng.choice((("colour", "shape"), ("shape",), ("colour",))))
    if words is None or not rules.video or objects[index].turns_back:
        return None
    form = rng.choice(
        ("How does the {} move?", "Which way does the {} move?", "What is the {} doing?", "Is the {} moving?")
        if rules.vary
        else ("How does the {} move?",)
    )
    answer = f"It is {MOVING[objects[index].motion]}."
    question = chat_question(form.format(words))
    mentions = ((0, index), (5, index))
    return Turn("motion", "motion", question, answer, mentions=mentions, subject=words)


_Maker = Callable[[Sequence[ShapeObject], int, random.Random, TurnRules], Turn | None]
_MAKERS: dict[str, _Maker] = {
    "refer": _refer,
    "several": _several,
    "refuse": _refuse,
    "refuse_motion": partial(_refuse, motion=True),
    "ground": _ground,
    "describe": _describe,
    "region": _region,
    "count": _count,
    "exists": _exists,
    "attribute": _attribute,
    "where": _where,
    "motion": _motion,
}
