"""What frameworks send for arguments that are not given, and other forms of what was meant: same result."""

import json
import math
from typing import Any

import numpy as np
import pytest

from sa2va_tools.engine.regions import Region, as_regions
from sa2va_tools.errors import RequestError
from sa2va_tools.run import Run
from sa2va_tools.testing import FakeEngine, synthetic_clip
from sa2va_tools.tools.base import Tool
from sa2va_tools.tools.catalogue import CATALOGUE, find_tool

EMPTY: list[Any] = [None, "", " \n", [], {}, "null", "None", [None], [""], {"any": None}]
BOX = {"box_xyxy": [10, 10, 40, 30]}


@pytest.fixture(scope="module")
def engine():
    with FakeEngine() as fake:
        yield fake


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(synthetic_clip(tmp_path_factory.mktemp("media") / "clip.mp4", frames=4))


def required(tool: Tool, clip: str, engine: FakeEngine) -> dict[str, Any]:
    """The least that a call needs: a mask handle identifies the media, so that `media` is optional."""
    mask = engine.segment(clip, "red").objects[0].handle
    values = {
        "media": clip,
        "expressions": ["red", "unicorn"],
        "handles": [mask],
        "regions": [{"mask": mask}],
    }
    return {name: values[name] for name, field in tool.arguments.model_fields.items() if field.is_required()}


def answer(engine: FakeEngine, tool: Tool, arguments: dict[str, Any]) -> tuple:
    output = tool.run(engine, tool.parse(arguments), Run())
    return output.as_dict(), output.text, output.pictures


@pytest.mark.parametrize("tool", CATALOGUE, ids=lambda tool: tool.name)
def test_every_optional_argument_may_be_null_or_empty(tool, engine, clip):
    least = required(tool, clip, engine)
    absent = answer(engine, tool, least)
    optional = [name for name, field in tool.arguments.model_fields.items() if not field.is_required()]
    assert optional
    for empty in EMPTY:
        assert answer(engine, tool, least | dict.fromkeys(optional, empty)) == absent, empty
        for name in optional:
            assert tool.parse(least | {name: empty}) == tool.parse(least), (name, empty)


@pytest.mark.parametrize("name", ["caption_region", "track_region"])
@pytest.mark.parametrize(
    "region",
    [
        BOX,
        {"points_xy": [[20, 20]], "negative_points_xy": [[80, 50]]},
        {"polygon_xy": [[5, 5], [50, 5], [50, 40]]},
        {"rle": {"size": [64, 96], "counts": [640, 320, 5184]}},
        {"box_xyxy": [0.1, 0.1, 0.5, 0.5], "unit": "fraction"},
    ],
    ids=lambda region: next(iter(region)),
)
def test_every_optional_part_of_a_region_may_be_null_or_empty(name, region, engine, clip):
    tool = find_tool(name)
    absent = answer(engine, tool, {"media": clip, "regions": [region]})
    others = [part for part in Region.model_fields if part not in region]
    for empty in EMPTY:
        filled = region | dict.fromkeys(others, empty)
        assert answer(engine, tool, {"media": clip, "regions": [filled]}) == absent, empty
        for part in others:
            assert as_regions([region | {part: empty}]) == as_regions([region]), (part, empty)


@pytest.mark.parametrize("tool", CATALOGUE, ids=lambda tool: tool.name)
def test_a_call_by_the_strict_schema_has_the_same_result(tool, engine, clip):
    """In strict mode a model writes every property; null is what it writes for those that it does not use."""
    least = required(tool, clip, engine)
    strict = dict.fromkeys(tool.input_schema(strict=True)["properties"]) | least
    if "regions" in strict:
        parts = tool.input_schema(strict=True)["properties"]["regions"]["items"]["properties"]
        strict["regions"] = [dict.fromkeys(parts) | region for region in least["regions"]]
    assert answer(engine, tool, json.loads(json.dumps(strict))) == answer(engine, tool, least)


@pytest.mark.parametrize("tool", CATALOGUE, ids=lambda tool: tool.name)
def test_required_arguments_that_are_empty_are_named(tool, engine, clip):
    least = required(tool, clip, engine)
    for name in least:
        for empty in (None, "", " ", [], {}):
            with pytest.raises(RequestError) as caught:
                answer(engine, tool, least | {name: empty})
            text = str(caught.value)
            assert name in text or name.removesuffix("s") in text, (name, empty, text)
            assert caught.value.hint and len(text) < 600


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("frame_index", "3", 3),
        ("frame_index", " 3 ", 3),
        ("frame_index", 3.0, 3),
        ("time_s", "0.2", 0.2),
        ("smooth", "true", True),
        ("smooth", "False", False),
        ("stride", "2", 2),
        ("threshold", "0.25", 0.25),
    ],
)
def test_numbers_and_booleans_may_be_text(name, value, meant):
    parsed = find_tool("track_region").parse({"regions": "mask:…", name: value})
    assert getattr(parsed, name) == meant


@pytest.mark.parametrize(
    "regions",
    [
        BOX,
        [BOX],
        json.dumps(BOX),
        json.dumps([BOX]),
        [json.dumps(BOX)],
        [[BOX]],
        str([BOX]),
        [10, 10, 40, 30],
        [[10, 10, 40, 30]],
        "[10, 10, 40, 30]",
        [{"box_xyxy": [[10, 10, 40, 30]]}],
        [{"box_xyxy": [[10, 10], [40, 30]]}],
        [{"box_xyxy": "10, 10, 40, 30"}],
        [{"box_xyxy": "[10, 10, 40, 30]"}],
        [{"box_xyxy": "(10, 10, 40, 30)"}],
        [{"box_xyxy": ["10", "10", "40", "30"]}],
    ],
    ids=str,
)
def test_a_box_in_any_form_that_can_mean_only_one_thing(regions):
    assert find_tool("caption_region").parse({"regions": regions}).regions == [Region.model_validate(BOX)]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"points_xy": [20, 21]}, {"points_xy": [[20, 21]]}),
        ({"points_xy": [[[20, 21], [22, 23]]]}, {"points_xy": [[20, 21], [22, 23]]}),
        ({"points_xy": "[[20, 21]]"}, {"points_xy": [[20, 21]]}),
        ({"points_xy": "20,21"}, {"points_xy": [[20, 21]]}),
        ({"polygon_xy": [5, 5, 50, 5, 50, 40]}, {"polygon_xy": [[5, 5], [50, 5], [50, 40]]}),
        ({"polygon_xy": [[5, 5, 50, 5, 50, 40]]}, {"polygon_xy": [[5, 5], [50, 5], [50, 40]]}),
        ({"polygon_xy": [[[5, 5], [50, 5], [50, 40]]]}, {"polygon_xy": [[5, 5], [50, 5], [50, 40]]}),
        ({"rle": '{"size": [2, 2], "counts": [4]}'}, {"rle": {"size": [2, 2], "counts": [4]}}),
    ],
    ids=str,
)
def test_points_outlines_and_rle_in_any_form_that_can_mean_only_one_thing(given, meant):
    assert as_regions([given]) == as_regions([meant])


@pytest.mark.parametrize("text", ["[[[[" * 40_000, "[the red car", "{", "(" * 300_000, "['a" * 50_000])
def test_text_that_only_begins_like_a_list_stays_text(text):
    assert find_tool("view").parse({"handles": text}).handles == [text]


def test_texts_may_be_one_text_or_a_list_in_any_form(engine, clip):
    parse = find_tool("segment_by_text").parse
    for expressions in (
        ["red", "blue"],
        [["red", "blue"]],
        '["red", "blue"]',
        "['red', 'blue']",
        ("red", "blue"),
    ):
        assert parse({"media": clip, "expressions": expressions}).expressions == ["red", "blue"]
    assert parse({"media": clip, "expressions": "red, blue"}).expressions == ["red, blue"]


def test_a_question_that_begins_like_a_list_is_a_question():
    assert find_tool("describe").parse({"media": "a", "question": "[1, 2]"}).question == "[1, 2]"


@pytest.mark.parametrize("name", ["describe", "segment_by_text", "ground_conversation", "track_region"])
def test_an_end_of_zero_is_refused_because_it_would_silently_be_one_frame(name, engine, clip):
    tool = find_tool(name)
    least = required(tool, clip, engine)
    for zero in (0, 0.0, "0"):
        with pytest.raises(RequestError, match=r"end_s.*only the first frame; leave it out"):
            tool.parse(least | {"end_s": zero})
    with pytest.raises(RequestError, match="end_s"):
        tool.parse(least | {"end_s": math.nan})
    assert tool.parse(least | {"start_s": 0, "end_s": 0.01}).end_s == 0.01


def test_a_part_of_a_video_is_told_as_such(engine, clip):
    for name, more in (("segment_by_text", {"expressions": "red"}), ("ground_conversation", {})):
        part = answer(engine, find_tool(name), {"media": clip, "end_s": 0.15, **more})[0]["summary"]
        whole = answer(engine, find_tool(name), {"media": clip, **more})[0]["summary"]
        assert "Only 2 of 4 frames were searched" in part and "searched" not in whole


def test_a_start_of_zero_says_nothing_even_about_an_image(engine):
    pixels = np.zeros((40, 60, 3), np.uint8)
    image = engine.find_media(pixels).handle
    arguments = {"media": image, "expressions": "red"}
    tool = find_tool("segment_by_text")
    assert answer(engine, tool, arguments | {"start_s": 0}) == answer(engine, tool, arguments)
    with pytest.raises(RequestError, match="has no time range"):
        answer(engine, tool, arguments | {"start_s": 1})
