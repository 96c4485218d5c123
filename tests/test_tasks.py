"""Questions and answers about scenes: true, unique, and worded as published."""

from __future__ import annotations

import random
import re

import pytest

from sa2va_tools.model.text.prompts import GROUND_IMAGE, segment_question
from sa2va_tools.nano.world.expressions import (
    MOTION_PHRASES,
    noun_phrase,
    sample_absent_target,
    sample_expression,
)
from sa2va_tools.nano.world.sampling import SceneRecipe, sample_scene
from sa2va_tools.nano.world.scenes import COLOURS, HELD_OUT_NAMES, SHAPES, SIDE, SIZES, is_held_out
from sa2va_tools.nano.world.tasks import IMAGE_TASKS, VIDEO_TASKS, sample_turn, sample_turns
from sa2va_tools.nano.world.turns import TurnRules


def turns(
    task: str, *, video: bool = False, vary: bool = True, recipe: SceneRecipe | None = None, scenes=150
):
    for seed in range(scenes):
        rng = random.Random(seed)
        objects = sample_scene(rng, recipe or SceneRecipe(video=video))
        turn = sample_turn(objects, rng, task, TurnRules(video=video, vary=vary))
        if turn is not None:
            yield objects, turn


def text_of(turn):
    return f"{turn.question} {turn.answer}"


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("task", sorted(set(IMAGE_TASKS + VIDEO_TASKS)))
def test_every_question_begins_with_the_picture_and_every_seg_token_has_an_object(task, video):
    for _, turn in turns(task, video=video, scenes=40):
        assert turn.question.startswith("<image>")
        assert turn.answer.count("[SEG]") == len(turn.segments)


def test_expressions_of_colour_and_shape_fit_their_object():
    pattern = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")
    checked = 0
    for objects, turn in turns("refer", vary=False, scenes=400):
        named = pattern.search(turn.question)
        if named is None or turn.kind != "attributes":
            continue
        colour, shape = COLOURS.index(named[1]), SHAPES.index(named[2])
        target = objects[turn.segments[0]]
        assert (target.colour, target.shape) == (colour, shape)
        checked += 1
    assert checked > 40


def test_places_are_true():
    found = 0
    for objects, turn in turns("refer", scenes=600):
        target = objects[turn.segments[0]]
        if "leftmost object" in turn.question:
            assert target.start_xy[0] == min(o.start_xy[0] for o in objects)
            found += 1
        if "largest object" in turn.question:
            assert target.radius == max(o.radius for o in objects)
            found += 1
    assert found > 3


def test_refused_objects_are_not_there():
    for objects, turn in turns("refuse"):
        denied = turn.answer.removeprefix("There is no ").removesuffix(".").split()
        present = [(COLOURS[o.colour], SHAPES[o.shape]) for o in objects]
        colours, shapes = {c for c, _ in present}, {s for _, s in present}
        if len(denied) == 1:
            assert denied[0] not in shapes
        elif denied[1] == "object":
            assert denied[0] not in colours
        else:
            assert tuple(denied) not in present


@pytest.mark.parametrize("task", ["refuse", "exists", "refer", "ground", "describe", "region"])
def test_training_never_names_a_held_out_pair(task):
    forbidden = [f"{colour} {shape}" for colour, shape in HELD_OUT_NAMES]
    assert not any(phrase in text_of(turn) for _, turn in turns(task, scenes=300) for phrase in forbidden)


def test_objects_without_a_colour_name_are_not_described():
    recipe = SceneRecipe(unnamed_share=1.0)
    for task in ("ground", "describe", "region", "refuse", "exists"):
        assert not list(turns(task, recipe=recipe, scenes=30))
    asked = [turn for _, turn in turns("refer", recipe=recipe)]
    assert asked and not any(colour in turn.question for turn in asked for colour in COLOURS)


def test_counts_and_answers_about_existence_are_true():
    for objects, turn in turns("count"):
        if "How many objects" in turn.question:
            assert turn.answer == f"{len(objects)}."
    for objects, turn in turns("exists"):
        asked = re.search(r"Is there an? (\w+) (\w+)\?", turn.question)
        if asked is None or asked[2] == "object":
            continue
        there = any((COLOURS[o.colour], SHAPES[o.shape]) == asked.groups() for o in objects)
        assert turn.answer == ("Yes, there is." if there else "No, there is not.")


def test_grounded_captions_name_all_objects_from_left_to_right():
    for objects, turn in turns("ground"):
        assert sorted(turn.segments) == list(range(len(objects)))
        places = [objects[i].start_xy[0] for i in turn.segments]
        assert places == sorted(places)
        phrases = re.findall(r"<p>an? (\w+) (\w+)</p> \[SEG\]", turn.answer)
        assert phrases == [(COLOURS[objects[i].colour], SHAPES[objects[i].shape]) for i in turn.segments]


def test_every_word_about_looks_is_a_mention():
    for objects, turn in turns("describe"):
        words = [
            (turn.answer[character:].split()[0].strip(".,"), index) for character, index in turn.mentions
        ]
        looks = [
            (word, index)
            for index in dict.fromkeys(index for _, index in turn.mentions)
            for word in (COLOURS[objects[index].colour], SHAPES[objects[index].shape])
        ]
        assert words == looks
        assert all(turn.answer[character] == " " for character, _ in turn.mentions)


def test_answers_about_motion_are_true():
    for objects, turn in turns("motion", video=True):
        target = objects[turn.mentions[0][1]]
        phrases = ("moving left", "moving right", "moving up", "moving down", "standing still", "growing")
        assert turn.answer == f"It is {phrases[target.motion]}."


def test_without_variation_the_published_wording_is_used():
    for _, turn in turns("refer", vary=False):
        expression = re.search(r"Please segment (.*) in this image\.", turn.question)
        assert expression and turn.question == segment_question(expression[1], video=False)
    assert all(turn.question == f"<image>\n{GROUND_IMAGE}" for _, turn in turns("ground", vary=False))


def test_only_targets_are_asked_about():
    for seed in range(60):
        rng = random.Random(seed)
        objects = sample_scene(rng, SceneRecipe(split="test"))
        targets = tuple(i for i, o in enumerate(objects) if is_held_out(o))
        turn = sample_turn(objects, rng, "refer", TurnRules(video=False, targets=targets))
        assert turn is None or turn.segments[0] in targets


def test_as_many_turns_are_sampled_as_requested():
    rng = random.Random(3)
    objects = sample_scene(rng, SceneRecipe(object_counts=(3,)))
    assert len(sample_turns(objects, rng, 6, IMAGE_TASKS, TurnRules(video=False))) == 6


def test_relations_fit_one_object_only():
    checked = 0
    for seed in range(400):
        rng = random.Random(seed)
        objects = sample_scene(rng, SceneRecipe(object_counts=(3, 4)))
        for index in range(len(objects)):
            found = sample_expression(objects, index, rng, video=False)
            if found is None or found.kind != "relation":
                continue
            checked += 1
            base, words, landmark = re.fullmatch(
                r"(\w+) (to the left of|to the right of|above|below) the (\w+ \w+)", found.text
            ).groups()
            (anchor,) = [o for o in objects if noun_phrase(o, ("colour", "shape")) == landmark]
            axis, side = {
                "to the left of": (0, -1),
                "to the right of": (0, 1),
                "above": (1, -1),
                "below": (1, 1),
            }[words]
            fitting = [
                o
                for o in objects
                if o is not anchor
                and base in ("object", SHAPES[o.shape])
                and side * (o.start_xy[axis] - anchor.start_xy[axis]) > 0
            ]
            assert fitting == [objects[index]]
    assert checked > 20


def test_several_objects_get_a_seg_token_each():
    seen = set()
    for objects, turn in turns("several", video=False, scenes=150):
        assert turn.answer.count("[SEG]") == len(turn.segments) == len(set(turn.segments))
        seen.add(len(turn.segments))
        if "all objects" in turn.question:
            assert set(turn.segments) == set(range(len(objects)))
            xs = [objects[i].start_xy[0] for i in turn.segments]
            assert xs == sorted(xs)
    assert {1, 2, 3} <= seen


def test_the_answer_is_the_number_of_counted_objects():
    for _, turn in turns("count", video=False):
        assert turn.answer == f"{len(turn.counted)}."


def test_only_objects_of_clear_size_are_called_small_or_large():
    for seed in range(300):
        rng = random.Random(seed)
        objects = sample_scene(rng, SceneRecipe(free_size_share=0.6))
        for task in ("region", "attribute", "refer"):
            turn = sample_turn(objects, rng, task, TurnRules(video=False))
            text = "" if turn is None else text_of(turn)
            if re.search(r"\b(small|large)\b", text):
                (index,) = turn.regions[:1] or turn.segments[:1] or [i for _, i in turn.mentions[:1]]
                assert objects[index].has_clear_size


@pytest.mark.parametrize("video", [False, True])
def test_absent_targets_fit_no_object(video):
    kinds = set()
    for seed in range(400):
        rng = random.Random(seed)
        objects = sample_scene(rng, SceneRecipe(video=video))
        absent = sample_absent_target(objects, rng, video=video, allow_held_out=False)
        if absent is None:
            continue
        kinds.add((absent.kind, absent.expression.startswith("all ")))
        words = absent.denied.split()
        fitting = [
            o
            for o in objects
            if (words[0] not in SIZES or SIZES[o.size] == words[0])
            and (not set(words) & set(COLOURS) or COLOURS[o.colour] in words)
            and (not set(words) & set(SHAPES) or SHAPES[o.shape] in words)
            and (
                not absent.denied.endswith(MOTION_PHRASES) or absent.denied.endswith(MOTION_PHRASES[o.motion])
            )
        ]
        assert fitting == []
        assert tuple(w for w in words if w in COLOURS + SHAPES) not in HELD_OUT_NAMES
    assert kinds == {("looks", False), ("modifier", False), ("modifier", True)}


def test_every_question_about_existence_has_both_answers():
    answers: dict[str, set[str]] = {}
    for _, turn in turns("exists", vary=False, scenes=700):
        words = turn.question.partition("Is there a")[2].rstrip("?").split()[-2:]
        form = " ".join("shape" if w in SHAPES else w if w == "object" else "colour" for w in words)
        answers.setdefault(form.removeprefix("colour shape") or "both", set()).add(turn.answer)
    assert len(answers) >= 3
    assert all(each == {"Yes, there is.", "No, there is not."} for each in answers.values())


def test_no_other_object_is_on_the_named_side():
    checked = 0
    for objects, turn in turns("refer", scenes=900):
        if "object on the left" in turn.question and not any(c in turn.question for c in COLOURS):
            left = [i for i, o in enumerate(objects) if o.start_xy[0] < SIDE / 2]
            assert left == list(turn.segments)
            checked += 1
    assert checked > 2
