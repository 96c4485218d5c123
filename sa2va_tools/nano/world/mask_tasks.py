"""Turns whose answers contain masks: one object, several objects, absent objects, grounded captions."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from sa2va_tools.model.text import prompts
from sa2va_tools.model.text.prompts import chat_question, segment_question
from sa2va_tools.nano.world import expressions
from sa2va_tools.nano.world.expressions import AbsentTarget, add_article, pluralize
from sa2va_tools.nano.world.scenes import COLOURS, SHAPES, Scene
from sa2va_tools.nano.world.turns import Item, Mentions, Turn, TurnRules, join_items

_SEGMENT_IMAGE = (
    "Can you segment {target} in this image?",
    "Could you provide a segmentation mask for {target} in this image?",
    "Please segment {target}.",
    "Segment {target}.",
    "Please segment {target} in this image.",
    "What is {target} in this image? Please respond with segmentation mask.",
    "Where is {target} in this picture? Please respond with a segmentation mask.",
    "Where is {target}? Please respond with a segmentation mask.",
    "Find {target}.",
    "Show me {target}.",
    "Mark {target} in the image.",
    "{target}",
    "{target}",
)
_SEGMENT_VIDEO = (
    "Can you segment {target} in this video?",
    "Segment {target}.",
    "Please segment {target} in this video.",
    "What is {target} in this video? Please respond with a segmentation mask.",
    "Track {target}.",
    "Track {target} in this video.",
    "Find {target}.",
    "Show me {target}.",
    "{target}",
    "{target}",
)
_SEGMENT_SEVERAL = ("Segment {target}.", "Please segment {target}.")
DESCRIBE = ("Describe the {media}.", "What is in the {media}?", "What do you see?", "Describe this {media}.")
_FOUND = "Sure, it is [SEG]."


def ask_for_one(objects: Scene, index: int, rng: Random, rules: TurnRules) -> Turn | None:
    """The mask of an object that an expression refers to."""
    expression = expressions.sample_expression(objects, index, rng, video=rules.video)
    if expression is None:
        return None
    question = _word_request(expression.text, rng, rules)
    mentions = ((0, index),)
    subject = expression.text
    return Turn("refer", expression.kind, question, _FOUND, (index,), mentions=mentions, subject=subject)


def ask_for_several(objects: Scene, index: int, rng: Random, rules: TurnRules) -> Turn | None:
    """The masks of all objects of a kind, from left to right, or of two named objects, in the order named."""
    choice = rng.random()
    left_to_right = order_from_left(objects)
    if choice < 0.3 and len(objects) > 1:
        second = rng.choice([i for i in left_to_right if i != index])
        phrases = [expressions.unique_phrase(objects, i, ("colour", "shape")) for i in (index, second)]
        if None in phrases:
            return None
        target = f"the {phrases[0]} and the {phrases[1]}"
        chosen = [index, second]
    else:
        target, chosen = _choose_kind(objects, index, choice, left_to_right)
    answer = _FOUND
    mentions: Mentions = ((0, chosen[0]),)
    if len(chosen) > 1:
        answer, mentions = join_items("Sure, they are ", [Item("[SEG]", i) for i in chosen])
    question = segment_question(target, video=rules.video)
    if rules.vary and rng.random() < 0.4:
        question = chat_question(rng.choice(_SEGMENT_SEVERAL).format(target=target))
    return Turn("several", "several", question, answer, segments=tuple(chosen), mentions=mentions)


def _choose_kind(objects: Scene, index: int, choice: float, order: Sequence[int]) -> tuple[str, list[int]]:
    """`all objects`, `all circles` or `all red objects`, and which objects these are."""
    obj = objects[index]
    if choice < 0.5:
        return f"all {pluralize('object')}", list(order)
    if choice < 0.75 or any(other.colour is None for other in objects):
        return f"all {pluralize(SHAPES[obj.shape])}", [i for i in order if objects[i].shape == obj.shape]
    same_colour = [i for i in order if objects[i].colour == obj.colour]
    return f"all {COLOURS[obj.colour or 0]} {pluralize('object')}", same_colour


def ask_for_absent(objects: Scene, _: int, rng: Random, rules: TurnRules) -> Turn | None:
    """The mask of something that is not there; the answer says so."""
    absent = expressions.sample_absent_target(
        objects, rng, video=rules.video, allow_held_out=rules.allow_held_out
    )
    return None if absent is None else _deny(absent, rng, rules)


def ask_for_absent_motion(objects: Scene, _: int, rng: Random, rules: TurnRules) -> Turn | None:
    """The mask of an object with a motion that it does not have."""
    phrase = expressions.sample_absent_motion(objects, rng) if rules.video else None
    return None if phrase is None else _deny(AbsentTarget(phrase, phrase, "modifier"), rng, rules)


def _deny(absent: AbsentTarget, rng: Random, rules: TurnRules) -> Turn:
    question = _word_request(absent.expression, rng, rules)
    if absent.expression.startswith("all "):
        question = segment_question(absent.expression, video=rules.video)
    return Turn("refuse", absent.kind, question, f"There is no {absent.denied}.")


def _word_request(expression: str, rng: Random, rules: TurnRules) -> str:
    """A question for the mask of what the expression refers to."""
    target = f"the {expression}"
    article = rng.random()
    if rules.vary and article < 0.3:
        target = expression if article < 0.2 else add_article(expression)
    if rules.vary and rng.random() < 0.08:
        target = target[0].upper() + target[1:]
    form = rng.random()
    if not rules.vary or form < 0.45:
        return segment_question(target, video=rules.video)
    if form < 0.55:
        asked = rng.choice((f"Where is {target}?", f"Which one is {target}?"))
        return segment_question(asked, video=rules.video)
    return chat_question(rng.choice(_SEGMENT_VIDEO if rules.video else _SEGMENT_IMAGE).format(target=target))


def ask_for_grounded_caption(objects: Scene, _: int, rng: Random, rules: TurnRules) -> Turn | None:
    """A list of all objects, each with its mask."""
    items = list_objects(objects, rules)
    if items is None:
        return None
    question = prompts.GROUND_VIDEO if rules.video else prompts.GROUND_IMAGE
    if rules.vary and rng.random() < 0.3:
        question = f"{rng.choice(DESCRIBE).format(media=rules.media)} {prompts.GROUND_SUFFIX}"
    marked = [Item(f"<p>{item.phrase}", item.index, "</p> [SEG]") for item in items]
    answer, mentions = join_items("", marked)
    segments = tuple(item.index for item in items)
    return Turn("ground", "ground", chat_question(question), answer, segments=segments, mentions=mentions)


def list_objects(objects: Scene, rules: TurnRules) -> list[Item] | None:
    """All objects from left to right (`a red circle`); None if there are no words for one of them."""
    if any(obj.colour is None or (rules.video and obj.turns_back) for obj in objects):
        return None
    attributes = ("colour", "shape", "motion") if rules.video else ("colour", "shape")
    phrases = [add_article(expressions.noun_phrase(obj, attributes)) for obj in objects]
    return [Item(phrases[i], i) for i in order_from_left(objects)]


def order_from_left(objects: Scene) -> list[int]:
    """Indices of the objects from left to right, as they stand at the start."""
    return sorted(range(len(objects)), key=lambda i: objects[i].start_xy[0])
