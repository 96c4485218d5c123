"""The tasks of the world, which cover Sa2VA's abilities; and the turns that are answered in words alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from sa2va_tools.model.text import prompts
from sa2va_tools.model.text.prompts import chat_question
from sa2va_tools.nano.world import expressions, mask_tasks
from sa2va_tools.nano.world.expressions import MOTION_PHRASES, add_article, pluralize
from sa2va_tools.nano.world.mask_tasks import DESCRIBE, list_objects
from sa2va_tools.nano.world.scenes import COLOURS, SHAPES, SIZES, Scene
from sa2va_tools.nano.world.turns import Turn, TurnRules, find_words, join_items

IMAGE_TASKS = (
    *("refer",) * 6, *("several",) * 2, *("refuse",) * 3, *("ground",) * 2, *("describe",) * 2,
    *("region",) * 3, *("count",) * 3, *("exists",) * 2, *("attribute",) * 6, *("where",) * 3,
)  # fmt: skip
"""Each as often as it is asked."""
VIDEO_TASKS = (
    *("refer",) * 7, *("several",) * 2, *("refuse",) * 2, *("ground",) * 2, *("describe",) * 2,
    *("count",) * 2, "exists", *("attribute",) * 4, *("motion",) * 5,
)  # fmt: skip

ONE_WORD_TASKS = frozenset(("count", "exists", "attribute", "where", "motion"))
"""Tasks in whose answers a single word matters; in other answers many do."""

_REGION = (
    prompts.CAPTION_REGION.replace("region1", "region{number}"),
    "What is region{number}?",
    "Describe region{number}.",
    "Can you give me a short description of region{number}?",
)
_COUNT = ("How many {objects} are in the {media}?", "How many {objects} do you see?", "Count the {objects}.")
_EXISTS = ("Is there {target} in the {media}?", "Do you see {target}?", "Can you see {target}?")
_MOVES = (
    "How does the {target} move?",
    "Which way does the {target} move?",
    "What is the {target} doing?",
    "Is the {target} moving?",
)
_SUBJECT_SETS = (("colour", "shape"), ("shape",), ("colour",))


def ask_for_description(objects: Scene, _: int, rng: Random, rules: TurnRules) -> Turn | None:
    """A list of all objects."""
    items = list_objects(objects, rules)
    if items is None:
        return None
    question = prompts.DESCRIBE_VIDEO if rules.video else prompts.DESCRIBE_IMAGE
    if rules.vary and rng.random() < 0.5:
        question = rng.choice(DESCRIBE).format(media=rules.media)
    answer, mentions = join_items("There is ", items)
    return Turn("describe", "describe", chat_question(question), answer, mentions=mentions)


def ask_about_region(objects: Scene, index: int, rng: Random, rules: TurnRules) -> Turn | None:
    """A caption of a marked region, sometimes of one of two."""
    obj = objects[index]
    if rules.video or obj.colour is None or not obj.has_clear_size:
        return None
    regions = [index]
    number = 1
    if rules.vary and len(objects) > 1 and rng.random() < 0.15:
        regions = [index, rng.choice([i for i in range(len(objects)) if i != index])]
        rng.shuffle(regions)
        number = regions.index(index) + 1
    phrase = add_article(expressions.noun_phrase(obj, ("size", "colour", "shape")))
    asked = rng.choice(_REGION).format(number=number) if rules.vary else prompts.CAPTION_REGION
    question = prompts.IMAGE + asked  # no line break: the sentence about the regions ends with one
    answer = phrase[0].upper() + phrase[1:] + "."
    mentions = tuple((character, index) for character in find_words(phrase))
    return Turn("region", "region", question, answer, regions=tuple(regions), mentions=mentions)


def ask_for_count(objects: Scene, index: int, rng: Random, rules: TurnRules) -> Turn | None:
    """The number of objects, of a shape, of a colour, or of both."""
    choice = rng.random()
    obj = objects[index]
    colour: int | None = None
    shape: int | None = None
    if choice >= 0.68 and any(other.colour is None for other in objects):
        return None
    if 0.35 <= choice < 0.68:
        shape = obj.shape if rng.random() < 0.7 else rng.randrange(len(SHAPES))
    elif 0.68 <= choice < 0.87:
        colour = obj.colour
        shape = obj.shape
    elif choice >= 0.87:
        colour = obj.colour if rng.random() < 0.7 else rng.randrange(len(COLOURS))
    noun = pluralize("object" if shape is None else SHAPES[shape])
    counted = tuple(
        i
        for i, other in enumerate(objects)
        if colour in (None, other.colour) and shape in (None, other.shape)
    )
    pattern = "How many {objects} are there?"
    if rules.vary and rng.random() < 0.3:
        pattern = rng.choice(_COUNT)
    named = noun if colour is None else f"{COLOURS[colour]} {noun}"
    question = chat_question(pattern.format(objects=named, media=rules.media))
    return Turn("count", "count", question, f"{len(counted)}.", counted=counted)


def ask_for_existence(objects: Scene, index: int, rng: Random, rules: TurnRules) -> Turn | None:
    """Whether there is such an object; half of the time there is."""
    if any(obj.colour is None for obj in objects):
        return None
    attributes = rng.choice((("shape",), ("colour",), *(("colour", "shape"),) * 6))
    phrase: str | None = expressions.noun_phrase(objects[index], attributes)
    is_there = rng.random() >= 0.5
    if not is_there:
        phrase = expressions.sample_absent_phrase(objects, rng, allow_held_out=rules.allow_held_out)
    if phrase is None:
        return None
    pattern = "Is there {target}?"
    if rules.vary and rng.random() < 0.3:
        pattern = rng.choice(_EXISTS)
    question = chat_question(pattern.format(target=add_article(phrase), media=rules.media))
    if not is_there:
        return Turn("exists", "exists", question, "No, there is not.")
    return Turn("exists", "exists", question, "Yes, there is.", mentions=((0, index),))


def ask_for_attribute(objects: Scene, index: int, rng: Random, rules: TurnRules) -> Turn | None:
    """The colour, shape or size of an object. An object without a colour name can be asked for its shape
    only, which teaches shapes that no colour gives away."""
    obj = objects[index]
    asked = rng.choice(("colour", "colour", "shape", "shape", "shape", "shape", "size"))
    given = {
        "colour": rng.choice((("shape",), ("shape",), ("size", "shape"))),
        "shape": rng.choice((("colour",), ("colour",), ("size", "colour"), ("size",))),
        "size": ("colour", "shape"),
    }[asked]
    if obj.colour is None:
        asked = "shape"
        given = ("size",)
    phrase = expressions.unique_phrase(objects, index, given)
    if phrase is None or (asked == "size" and not obj.has_clear_size):
        return None
    colour_questions = [f"What color is the {phrase}?", f"What colour is the {phrase}?"]
    if rules.vary:
        colour_questions.append(f"What is the color of the {phrase}?")
    question, answer = {
        "colour": (rng.choice(colour_questions), f"It is {COLOURS[obj.colour or 0]}."),
        "shape": (f"What shape is the {phrase}?", f"It is {add_article(SHAPES[obj.shape])}."),
        "size": (f"Is the {phrase} small or large?", f"It is {SIZES[obj.size]}."),
    }[asked]
    mentions = ((0, index), (answer.rindex(" "), index))
    return Turn("attribute", asked, chat_question(question), answer, mentions=mentions, subject=phrase)


def ask_for_place(objects: Scene, index: int, rng: Random, rules: TurnRules) -> Turn | None:
    """Where an object is in an image."""
    place = expressions.describe_place(objects[index])
    phrase = expressions.unique_phrase(objects, index, rng.choice(_SUBJECT_SETS))
    if place is None or phrase is None or rules.video:
        return None
    question = chat_question(f"Where is the {phrase}?")
    answer = f"It is {place}."
    mentions = ((0, index), (len("It is"), index), (answer.rindex(" "), index))
    return Turn("where", "where", question, answer, mentions=mentions, subject=phrase)


def ask_for_motion(objects: Scene, index: int, rng: Random, rules: TurnRules) -> Turn | None:
    """How an object moves in a video."""
    phrase = expressions.unique_phrase(objects, index, rng.choice(_SUBJECT_SETS))
    if phrase is None or not rules.video or objects[index].turns_back:
        return None
    question = chat_question(rng.choice(_MOVES if rules.vary else _MOVES[:1]).format(target=phrase))
    answer = f"It is {MOTION_PHRASES[objects[index].motion]}."
    mentions = ((0, index), (len("It is"), index))
    return Turn("motion", "motion", question, answer, mentions=mentions, subject=phrase)


_ASK: dict[str, Callable[[Scene, int, Random, TurnRules], Turn | None]] = {
    "refer": mask_tasks.ask_for_one,
    "several": mask_tasks.ask_for_several,
    "refuse": mask_tasks.ask_for_absent,
    "refuse_motion": mask_tasks.ask_for_absent_motion,
    "ground": mask_tasks.ask_for_grounded_caption,
    "describe": ask_for_description,
    "region": ask_about_region,
    "count": ask_for_count,
    "exists": ask_for_existence,
    "attribute": ask_for_attribute,
    "where": ask_for_place,
    "motion": ask_for_motion,
}


def sample_turns(
    objects: Scene, rng: Random, count: int, tasks: Sequence[str], rules: TurnRules
) -> list[Turn]:
    """Up to `count` turns of random `tasks`; fewer if the scene offers no more."""
    turns: list[Turn] = []
    for _ in range(count * 4):
        turn = sample_turn(objects, rng, rng.choice(tasks), rules)
        if turn is not None:
            turns.append(turn)
        if len(turns) == count:
            break
    return turns


def sample_turn(objects: Scene, rng: Random, task: str, rules: TurnRules) -> Turn | None:
    """A turn of this task about a random object; None if the scene does not allow it."""
    index = rng.choice(rules.targets or range(len(objects)))
    return _ASK[task](objects, index, rng, rules)
