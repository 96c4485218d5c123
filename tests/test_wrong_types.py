"""Whatever is passed for an argument: a result, an error of ours, or a TypeError that says what is accepted.

The values are fed to every parameter of every public method, found by their signatures."""

from __future__ import annotations

import asyncio
import fractions
import inspect
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa2va_tools import AsyncEngine, Engine, MaskTrack, Progress, Region, Run, Settings, load_engine
from sa2va_tools.engine.mask_access import MaskCollection
from sa2va_tools.engine.options import DescribeOptions, SegmentOptions, TrackOptions
from sa2va_tools.errors import RequestError, Sa2vaError, UnknownObjectError
from sa2va_tools.settings import MediaLimits
from sa2va_tools.testing import FakeEngine, synthetic_clip


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no words for this")


WRONG = {
    "None": None,
    "dict": {},
    "filled dict": {"a": 1},
    "int": 7,
    "negative": -1,
    "huge": 10**30,
    "float": 1.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "bool": True,
    "complex": 1j,
    "fraction": fractions.Fraction(1, 3),
    "bytes": b"bytes",
    "empty text": "",
    "space": "  ",
    "text": "x",
    "NUL": "a\0b",
    "surrogate": "\ud800",
    "long text": "x" * 5000,
    "empty list": [],
    "nested list": [[]],
    "list of dicts": [{}],
    "mixed list": ["a", 3],
    "set": {1, 2},
    "range": range(3),
    "object": object(),
    "unprintable": Unprintable(),
    "class": Run,
    "function": print,
    "ellipsis": Ellipsis,
    "NumPy nan": np.float64("nan"),
    "NumPy int": np.int64(3),
    "array": np.zeros((2, 2)),
    "empty array": np.array([]),
    "array without axes": np.array(3),
    "path": Path("nowhere"),
    "media handle": "media:abcdefgh23",
    "mask handle": "mask:abcdefgh23",
    "answer handle": "answer:abcdefgh23",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    synthetic_clip(folder / "clip.mp4", frames=3)
    return folder


@pytest.fixture(scope="module")
def engine(place):
    return FakeEngine(place / "store")


@pytest.fixture(scope="module")
def result(engine, place):
    return engine.segment(place / "clip.mp4", ["a box", "a ball"])


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some of the values are names of folders


def check(name, call, good, parameter):
    for kind, value in [*WRONG.items(), ("generator", (x for x in [1])), ("empty generator", iter(()))]:
        said = None
        try:
            call(**{**good, parameter: value})
        except Sa2vaError as error:
            said = error.message
        except TypeError as error:
            said = str(error)
            explains = ("must be", "expected", "Expected", "Give", "accepted", "unexpected keyword")
            assert any(word in said for word in explains), (name, parameter, kind, said)
        except Exception as error:  # noqa: BLE001 - what the test is about
            pytest.fail(f"{name}({parameter}={kind}): {type(error).__name__}: {error}")
        assert said is None or said.strip(), (name, parameter, kind)


OPTIONS = {"describe": DescribeOptions, "segment": SegmentOptions, "ground": SegmentOptions}
OPTIONS |= {"track": TrackOptions, "stream": SegmentOptions}


def find_parameters(function):
    names = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD and function.__name__ in OPTIONS:
            names += [field.name for field in fields(OPTIONS[function.__name__])]
        elif parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
            names.append(parameter.name)
    return names


METHODS = sorted(
    name
    for name, member in inspect.getmembers(Engine, inspect.isfunction)
    if not name.startswith("_") and name not in ("close", "prepare")
)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_an_engine(engine, place, result, name, tmp_path):
    clip, box = place / "clip.mp4", (1, 2, 30, 30)
    good = {
        "describe": {"media": clip},
        "segment": {"media": clip, "expressions": "a box"},
        "stream": {"media": clip, "expressions": "a box"},
        "extend": {"answer": result.handle, "expressions": "a cat"},
        "ground": {"media": clip},
        "caption_region": {"media": clip, "regions": box},
        "track": {"media": clip, "regions": box},
        "view": {"handles": result.handle, "max_frames": 1, "max_side": 64},
        "export": {"handles": result.handle, "out_dir": tmp_path / "out", "formats": ["json"]},
        "masks_json": {"handles": result.handle},
        "find_media": {"source": clip},
        "find_frame": {"media": clip, "time_s": 0.1},
        "find_handles": {"beginning": "mask:"},
        "list_results": {},
        "load_result": {"handle": result.handle},
        "remove_results": {"handles": result.handle, "dry_run": True},
    }[name]
    method = getattr(engine, name)

    def call(**arguments):
        returned = method(**arguments)
        return returned.wait() if name == "stream" else returned

    call(**good)
    for parameter in find_parameters(getattr(Engine, name)):
        if (name, parameter) != ("remove_results", "dry_run"):
            check(name, call, good, parameter)


PLAIN = {
    "load_engine": (load_engine, {}, ["model", "settings", *Settings.model_fields]),
    "Settings": (Settings, {}, list(Settings.model_fields)),
    "MediaLimits": (MediaLimits, {}, list(MediaLimits.model_fields)),
    "Region": (Region, {}, list(Region.model_fields)),
    "DescribeOptions": (DescribeOptions, {}, [field.name for field in fields(DescribeOptions)]),
    "SegmentOptions": (SegmentOptions, {}, [field.name for field in fields(SegmentOptions)]),
    "TrackOptions": (TrackOptions, {}, [field.name for field in fields(TrackOptions)]),
    "Run": (Run, {}, ["on_progress"]),
    "AsyncEngine": (AsyncEngine, {}, ["engine"]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_settings_options_regions_and_limits(name, monkeypatch, tmp_path):
    monkeypatch.setenv("SA2VA_STORE_DIR", str(tmp_path / "store"))
    call, good, parameters = PLAIN[name]
    for parameter in parameters:
        check(name, call, good, parameter)


@pytest.mark.parametrize("kind", [DescribeOptions, SegmentOptions, TrackOptions])
def test_options_are_checked_when_they_are_created(kind):
    numbers = {"start_s", "end_s", "stride", "llm_frames", "frame_index", "max_new_tokens"}
    for field in fields(kind):
        if field.name not in numbers:
            continue
        for wrong in ({}, [], (), set(), "", "1", b"", [1], object(), True):
            with pytest.raises(RequestError, match=field.name):
                kind(**{field.name: wrong})


def test_errors_do_not_repeat_long_values(engine, result):
    long = "x" * 5000
    for call in (
        lambda: result.save("out", formats=long),
        lambda: engine.list_results(kind=long),
        lambda: engine.load_result(long),
    ):
        with pytest.raises(RequestError) as caught:
            call()
        assert len(str(caught.value)) < 400


RESULT_METHODS = sorted(
    name
    for name, member in inspect.getmembers(MaskCollection, inspect.isfunction)
    if not name.startswith("_")
)


@pytest.mark.parametrize("name", RESULT_METHODS)
def test_every_method_of_a_result(result, name, tmp_path):
    good = {"save": {"out_dir": tmp_path / "out", "formats": ["json"]}}.get(name, {})
    for parameter in find_parameters(getattr(MaskCollection, name)):
        check(name, getattr(result, name), good, parameter)


@pytest.mark.parametrize("name", ["covers", "position", "nearest", "at", "mask", "area", "score"])
def test_frames_of_a_track(result, name):
    check(name, getattr(result.objects[0].track, name), {}, "frame_index")
    assert inspect.signature(getattr(MaskTrack, name)).parameters["frame_index"]


def test_frames_of_an_object_and_keys_of_results(result):
    thing = result.objects[0]
    check("mask", thing.mask, {}, "frame_index")
    check("box_xyxy", thing.box_xyxy, {}, "frame_index")
    check("result[…]", lambda key: result[key], {}, "key")
    check("result.masks[…]", lambda key: result.masks[key], {}, "key")


def test_a_key_that_is_not_there_is_our_error_and_pythons(result):
    for key in ("a cat", 2, -3):
        for kind in (UnknownObjectError, KeyError, IndexError, RequestError):
            with pytest.raises(kind, match="its objects are: 'a box', 'a ball'"):
                result[key]
    for kind in (UnknownObjectError, IndexError):
        with pytest.raises(kind, match=r"index 7 is out of bounds.*\(2, 3, 64, 96\)"):
            result.masks[7]
    with pytest.raises(TypeError, match="its label"):
        result[True]


def test_scalars_of_numpy_are_accepted_everywhere(engine, place, result):
    clip = place / "clip.mp4"
    plain = engine.segment(clip, "a box", threshold=0.75, llm_frames=2, stride=1, end_s=0.25, smooth=True)
    scalars = engine.segment(
        clip,
        np.array(["a box"]),
        threshold=np.float32(0.75),
        llm_frames=np.int64(2),
        stride=np.uint8(1),
        end_s=np.array(0.25),
        smooth=np.bool_(True),
    )
    assert scalars.handle == plain.handle
    first = result[np.int64(0)]
    assert first is result[0] and first.box_xyxy(np.int32(1)) == first.box_xyxy(1)
    np.testing.assert_array_equal(first.mask(np.uint16(2)), first.mask(2))
    assert result.frame(np.int64(1)).index == 1
    at_once = engine.caption_region(clip, np.array([1, 2, 30, 30]), frame_index=np.int64(1))
    assert at_once == engine.caption_region(clip, (1, 2, 30, 30), frame_index=1)
    assert engine.find_frame(clip, np.float64(0.1)) == engine.find_frame(clip, 0.1)


def test_natural_forms_of_arguments_are_accepted(engine, place, result, tmp_path):
    clip = place / "clip.mp4"
    handle = result.objects[0].handle
    asked = ["a box", "a ball"]
    for expressions in (
        tuple(asked),
        (text for text in asked),
        iter(asked),
        {1: "a box", 2: "a ball"}.values(),
    ):
        assert engine.segment(clip, expressions).handle == result.handle
    (entry,) = [each for each in os.scandir(place) if each.name == "clip.mp4"]
    assert engine.find_media(entry) == engine.find_media(str(clip)) == engine.find_media(clip)
    regions = ({"box_xyxy": box} for box in [(1, 2, 30, 30), (5, 5, 40, 40)])
    assert len(engine.track(clip, regions).objects) == 2
    assert engine.caption_region(clip, handle) == engine.caption_region(clip, [{"mask": handle}])
    assert set(engine.export((handle,), str(tmp_path / "a"), formats="npz")) == {"npz", "json"}
    assert set(result.save(tmp_path / "b", formats=iter(["json"]))) == {"json"}
    assert engine.masks_json([handle]) == engine.masks_json(handle)
    picture = Image.new("RGB", (64, 48), (200, 30, 30))
    assert engine.segment(picture, "a box").media.kind == "image"


def test_asyncio_has_every_method_and_the_same_refusals(engine, place):
    assert {name for name in METHODS if not hasattr(AsyncEngine, name)} == set()

    async def call_all():
        wrapped = AsyncEngine(engine)
        assert await wrapped.list_results(limit=1, run=None)
        with pytest.raises(RequestError, match="run must be"):
            await wrapped.describe(place / "clip.mp4", run=7)
        with pytest.raises(TypeError, match="expressions must be"):
            await wrapped.segment(place / "clip.mp4", None)
        frames = [frame.index async for frame in wrapped.stream(place / "clip.mp4", "a box", run=None)]
        assert frames == [0, 1, 2]

    asyncio.run(call_all())


def test_progress_goes_to_functions_only():
    said = []
    Run(said.append).report("open")
    assert said == [Progress("open")]
    with pytest.raises(TypeError, match="on_progress must be a function"):
        Run("progress")
