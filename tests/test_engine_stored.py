"""Stored results are loaded as their calls returned them, also after a restart and without the file."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from sa2va_server.cli.demo_scene import write_demo_clip
from sa2va_tools import Settings, load_engine
from sa2va_tools.errors import MediaNotFoundError, RequestError
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.testing import FakeEngine

needs_nano = pytest.mark.skipif(
    not list(NANO_FOLDER.glob("*.safetensors")), reason="the nano model's weights are not in this checkout"
)


def ask_everything(engine, clip):
    """One result of each kind, and more that are special."""
    box = (200, 150, 310, 265) if engine.find_media(clip).size_wh[0] > 400 else (10, 10, 40, 40)
    words = engine.segment(clip, ["the red circle", "a unicorn"], end_s=0.3)
    return [
        words,
        engine.describe(clip, "What is there?", end_s=0.3),
        engine.ground(clip, end_s=0.3),
        engine.caption_region(clip, [words.objects[0].handle, box]),
        engine.track(clip, box, end_s=0.3, threshold=0.6),
        engine.extend(words.handle, "the green square"),
    ]


def test_results_are_loaded_as_they_were_returned(tmp_path, clip):
    results = ask_everything(FakeEngine(tmp_path / "store"), clip)
    restarted = FakeEngine(tmp_path / "store")
    for result in results:
        loaded = restarted.load_result(result.handle)
        assert loaded == result and type(loaded) is type(result)


@needs_nano
def test_results_of_the_model_are_loaded_as_they_were_returned(tmp_path):
    clip = write_demo_clip(tmp_path / "clip.mp4", frames=8)
    settings = Settings(device="cpu", store_dir=tmp_path / "store")
    with load_engine("nano", settings=settings) as engine:
        results = ask_everything(engine, clip)
    with load_engine(tmp_path / "no checkpoint", settings=settings) as restarted:
        assert [restarted.load_result(result.handle) for result in results] == results


def test_a_result_outlives_its_file(tmp_path, clip):
    shutil.copy(clip, tmp_path / "gone.mp4")
    engine = FakeEngine(tmp_path / "store")
    result = engine.segment(tmp_path / "gone.mp4", "a box")
    (tmp_path / "gone.mp4").unlink()
    loaded = engine.load_result(result.handle)
    assert loaded == result and loaded.source is None
    np.testing.assert_array_equal(loaded.masks[:], result.masks[:])
    assert loaded.objects[0].times_s == result.objects[0].times_s
    with pytest.raises(RequestError, match="no access to its image or video"):
        loaded.save(tmp_path / "out")


def test_masks_of_a_file_that_is_gone_are_written_but_no_overlay(tmp_path, clip):
    shutil.copy(clip, tmp_path / "gone.mp4")
    engine = FakeEngine(tmp_path / "store")
    result = engine.segment(tmp_path / "gone.mp4", "a box")
    formats = ["json", "png", "npz", "coco", "polygons"]
    engine.export(result.handle, tmp_path / "before", formats=formats)
    document = engine.masks_json(result.handle)
    (tmp_path / "gone.mp4").unlink()
    engine.export(result.handle, tmp_path / "after", formats=formats)
    for file in (tmp_path / "before").rglob("*.*"):
        assert (tmp_path / "after" / file.relative_to(tmp_path / "before")).read_bytes() == file.read_bytes()
    assert engine.masks_json(result.handle) == document
    with pytest.raises(MediaNotFoundError, match="no longer there") as refused:
        engine.export(result.handle, tmp_path / "overlay")
    assert "formats='json'" in refused.value.hint and not (tmp_path / "overlay").exists()


def test_pixels_in_memory_have_results_too(tmp_path):
    frames = np.zeros((4, 48, 64, 3), np.uint8)
    result = FakeEngine(tmp_path / "store").segment(frames, "a box", fps=8)
    restarted = FakeEngine(tmp_path / "store")
    assert restarted.load_result(result.handle) == result
    (listed,) = restarted.list_results(media=result.media.handle)
    assert listed.handle == result.handle


def test_a_mask_alone_is_a_result_with_one_object(tmp_path, clip):
    engine = FakeEngine(tmp_path / "store")
    result = engine.segment(clip, ["a box", "a ball"])
    loaded = engine.load_result(result.objects[1].handle)
    assert loaded.handle == result.objects[1].handle
    assert loaded.objects == (result.objects[1],)
    assert loaded.provenance == result.provenance


def test_the_list_says_what_results_are_about(tmp_path, clip):
    engine = FakeEngine(tmp_path / "store")
    before = datetime.now(UTC) - timedelta(seconds=2)
    results = ask_everything(engine, clip)
    listed = {item.handle: item for item in engine.list_results()}
    assert set(listed) == {result.handle for result in results}
    words = listed[results[0].handle]
    assert (words.kind, words.labels, words.missing) == ("segment", ("the red circle",), ("a unicorn",))
    assert before <= words.stored_at <= datetime.now(UTC) + timedelta(seconds=2)
    assert words.media == results[0].media
    assert engine.list_results(kind="track", text="REGION 1")[0].handle == results[4].handle
    assert [item.handle for item in engine.list_results(limit=2)] == list(listed)[:2]
    by_handle = engine.list_results(media=results[0].objects[0].handle)
    assert by_handle == engine.list_results(media=clip) == engine.list_results()
    for wrong in ({"kind": "poem"}, {"limit": 0}, {"media": "media:abcdefgh23"}):
        with pytest.raises(RequestError):
            engine.list_results(**wrong)
