"""Every engine refuses the same arguments with the same words, before it does any work."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sa2va_tools import Run, Settings, load_engine
from sa2va_tools.engine.options import DescribeOptions, SegmentOptions, TrackOptions
from sa2va_tools.engine.requests import MAX_EXPRESSIONS
from sa2va_tools.errors import (
    CancelledError,
    CheckpointNotFoundError,
    MediaNotFoundError,
    RequestError,
    UnknownHandleError,
)
from sa2va_tools.testing import FakeEngine, synthetic_clip

BOX = {"box_xyxy": (10, 10, 40, 40)}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    synthetic_clip(folder / "clip.mp4")
    Image.new("RGB", (64, 48), (200, 30, 30)).save(folder / "still.png")
    return folder


@pytest.fixture(scope="module", params=["local", "fake"])
def engine(request, tmp_path_factory):
    """Without a checkpoint the local engine can only refuse."""
    store = tmp_path_factory.mktemp("store")
    if request.param == "fake":
        yield FakeEngine(store)
        return
    with load_engine(store / "no-checkpoint", settings=Settings(store_dir=store)) as engine:
        yield engine


def test_a_valid_call_reaches_the_model(engine, media):
    if isinstance(engine, FakeEngine):
        assert engine.segment(media / "still.png", "a box").objects[0].found
    else:
        with pytest.raises(CheckpointNotFoundError):
            engine.segment(media / "still.png", "a box")


BAD_TEXT = [
    ("", "empty"),
    ("   ", "empty"),
    ("...", "contains no word"),
    ("a\0b", "not text"),
    ("\ud83d", "not text"),
    ("x" * 2001, "2001 characters"),
    ("the [SEG] cat", "markup"),
    ("<image> cat", "markup"),
]


@pytest.mark.parametrize(("text", "message"), BAD_TEXT)
def test_text_that_cannot_be_asked(engine, media, text, message):
    still = media / "still.png"
    for call in (
        lambda: engine.segment(still, text),
        lambda: engine.segment(still, ["a box", text]),
        lambda: engine.stream(still, text),
        lambda: engine.extend("answer:abcdefgh23", text),
        lambda: engine.describe(still, text),
        lambda: engine.ground(still, text),
        lambda: engine.caption_region(still, BOX, text),
    ):
        with pytest.raises(RequestError, match=message) as caught:
            call()
        assert caught.value.hint


@pytest.mark.parametrize("value", [7, b"bytes", ["a", 7], {"a": 1}.values(), ["a", None]])
def test_text_of_another_type(engine, media, value):
    with pytest.raises(TypeError, match="must be text"):
        engine.segment(media / "still.png", value if not isinstance(value, int | bytes) else [value])
    if isinstance(value, int | bytes):
        with pytest.raises(TypeError, match="must be text"):
            engine.describe(media / "still.png", value)


def test_numbers_of_expressions(engine, media):
    with pytest.raises(RequestError, match="No expression"):
        engine.segment(media / "still.png", [])
    many = [f"the box {number}" for number in range(MAX_EXPRESSIONS + 1)]
    with pytest.raises(RequestError, match=f"at most {MAX_EXPRESSIONS}"):
        engine.segment(media / "still.png", many)


BAD_OPTIONS = [
    ({"llm_frames": 0}, "llm_frames"),
    ({"llm_frames": 65}, "llm_frames"),
    ({"llm_frames": 2.5}, "llm_frames"),
    ({"stride": 0}, "stride"),
    ({"stride": "2"}, "stride"),
    ({"start_s": "1"}, "start_s"),
    ({"start_s": -1}, "start_s"),
    ({"start_s": float("nan")}, "start_s"),
    ({"start_s": 1.0, "end_s": 0.5}, "ends .* before it starts"),
    ({"start_s": 100}, "No frame is shown"),
]


@pytest.mark.parametrize(("options", "name"), BAD_OPTIONS)
def test_options_out_of_range(engine, media, options, name):
    clip = media / "clip.mp4"
    with pytest.raises(RequestError, match=name):
        engine.segment(clip, "a box", **options)
    with pytest.raises(RequestError, match=name):
        engine.describe(clip, **options)
    with pytest.raises(RequestError, match=name):
        engine.ground(clip, **options)
    if "llm_frames" not in options:
        with pytest.raises(RequestError, match=name):
            engine.track(clip, BOX, **options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"mode": "sa2va_i"}, "mode"),
        ({"mode": None}, "mode"),
        ({"threshold": 0}, "between 0 and 1"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"threshold": float("nan")}, "between 0 and 1"),
    ],
)
def test_mask_options_out_of_range(engine, media, options, name):
    with pytest.raises(RequestError, match=name):
        engine.segment(media / "clip.mp4", "a box", **options)


def test_options_are_a_value_or_keywords(engine, media):
    still = media / "still.png"
    with pytest.raises(TypeError, match=r"unknown option key_frames; the options are .*llm_frames"):
        engine.segment(still, "a box", key_frames=3)
    with pytest.raises(TypeError, match="must be a SegmentOptions, not DescribeOptions"):
        engine.segment(still, "a box", DescribeOptions())
    with pytest.raises(TypeError, match="must be a TrackOptions"):
        engine.track(still, BOX, SegmentOptions())
    with pytest.raises(RequestError, match="llm_frames"):
        engine.segment(still, "a box", SegmentOptions(end_s=1), llm_frames=0)
    with pytest.raises(RequestError, match="run must be"):
        engine.segment(still, "a box", run=print)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ([], "0 regions"),
        ([BOX] * 33, "33 regions"),
        ({}, "exactly one"),
        ({"box_xyxy": (1, 2, 3, 4), "mask": "mask:abcdefgh23"}, "exactly one"),
        ({"bbox": (1, 2, 3, 4)}, "bbox"),
        ((1, 2, 3), "not a region"),
        ("the red box", "mask"),
        ((30, 30, 20, 20), "no area"),
        ((0, 0, 4000, 20), "4000"),
        ({"points_xy": [(-5, 10)]}, "outside"),
        ((-50, -40, -10, -5), "50 pixels outside"),
        ((-1.5, 10, -0.5, 20), "outside"),
        ((0, 0, 0.5, 1.004), "look like fractions"),
        ({"points_xy": [(1.5, 0.2)], "unit": "fraction"}, "fraction"),
        ({"rle": {"size": (10, 10), "counts": "1"}}, "RLE|size"),
        ({"rle": {"size": (48, 64), "counts": [1, 2]}}, "counts|run"),
        ({"mask": "mask:abcdefgh23"}, "mask:abcdefgh23"),
    ],
)
def test_regions_that_cannot_be(engine, media, region, message):
    still = media / "still.png"
    for call in (lambda: engine.track(still, region), lambda: engine.caption_region(still, region)):
        with pytest.raises((RequestError, UnknownHandleError), match=message) as caught:
            call()
        assert caught.value.hint


@pytest.mark.parametrize(
    ("region", "inside"),
    [
        ((-0.3, -0.3, 30, 20), (0, 0, 30, 20)),
        ((40, 30, 65.9, 48.4), (40, 30, 64, 48)),
        ({"box_xyxy": (0.5, 0.5, 1.004, 1.01), "unit": "fraction"}, (32, 24, 64, 48)),
        ({"points_xy": [(64.4, 20), (10, 10)]}, {"points_xy": [(64, 20), (10, 10)]}),
        ({"polygon_xy": [(-1, -1), (20, -1), (20, 20)]}, {"polygon_xy": [(0, 0), (20, 0), (20, 20)]}),
    ],
)
def test_what_overhangs_by_rounding_is_cut_at_the_edge_with_a_warning(media, tmp_path, region, inside):
    still = media / "still.png"
    with FakeEngine(tmp_path / "store") as engine:
        cut, exact = engine.track(still, region), engine.track(still, inside)
        captions = engine.caption_region(still, region)
    assert (cut.objects[0].mask() == exact.objects[0].mask()).all()
    (warning,) = set(cut.warnings) - set(exact.warnings)
    assert "Region 1 overhangs the picture of 64 × 48 pixels" in warning
    assert warning in captions.warnings


@pytest.mark.parametrize("frame_index", [16, -1, 1.5])
def test_frames_that_are_not_there(engine, media, frame_index):
    with pytest.raises(RequestError, match="rame"):
        engine.track(media / "clip.mp4", BOX, TrackOptions(frame_index=frame_index))
    with pytest.raises(RequestError, match="rame"):
        engine.caption_region(media / "clip.mp4", BOX, frame_index=frame_index)


def test_media_that_are_not_there(engine, media):
    with pytest.raises(MediaNotFoundError):
        engine.segment(media / "none.mp4", "a box")
    with pytest.raises(UnknownHandleError):
        engine.segment("media:abcdefgh23", "a box")
    with pytest.raises(UnknownHandleError):
        engine.extend("answer:abcdefgh23", "a box")
    with pytest.raises(UnknownHandleError):
        engine.describe(media / "still.png", after="answer:abcdefgh23")


@pytest.mark.parametrize("source", [None, 7, 1.5, object(), {"path": "a.png"}, {1, 2}])
def test_media_of_another_type(engine, source):
    for call in (
        lambda: engine.segment(source, "a box"),
        lambda: engine.describe(source),
        lambda: engine.track(source, BOX),
        lambda: engine.find_media(source),
    ):
        with pytest.raises(TypeError, match="NumPy array"):
            call()


def test_fps_is_for_frames_without_a_rate(engine, media):
    with pytest.raises(RequestError, match="fps"):
        engine.segment(media / "clip.mp4", "a box", fps=10)
    with pytest.raises(RequestError, match="fps"):
        engine.segment(np.zeros((3, 48, 64, 3), np.uint8), "a box", fps=-1)


@pytest.mark.parametrize("formats", [["jpeg"], [], ["json", "gif"]], ids=["unknown", "none", "one unknown"])
def test_formats_that_cannot_be_written(media, tmp_path, formats):
    with FakeEngine(tmp_path / "store") as engine:
        result = engine.segment(media / "still.png", "a box")
        for call in (
            lambda: engine.export(result.handle, tmp_path / "out", formats=formats),
            lambda: result.save(tmp_path / "out", formats),
        ):
            with pytest.raises(RequestError, match="the formats are json, png, overlay, npz, coco, polygons"):
                call()
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_cancelled_before_the_call(engine, media):
    run = Run()
    run.cancel()
    for call in (
        lambda: engine.segment(media / "clip.mp4", "a box", run=run),
        lambda: engine.describe(media / "clip.mp4", run=run),
        lambda: engine.track(media / "clip.mp4", BOX, run=run),
        lambda: engine.view(str(media / "clip.mp4"), run=run),
    ):
        with pytest.raises(CancelledError):
            call()
