"""What an engine writes for people, and what it shows: nothing of theirs is lost, nothing is left unsaid."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from sa2va_tools import Run, Settings, load_engine
from sa2va_tools.engine.regions import Region
from sa2va_tools.errors import (
    CancelledError,
    MediaNotFoundError,
    MediaTooLargeError,
    MediaUnreadableError,
    RequestError,
    StoreError,
)
from sa2va_tools.settings import MediaLimits
from sa2va_tools.testing import FakeEngine, synthetic_clip


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path / "store") as made:
        yield made


@pytest.fixture
def found(engine, clip):
    return engine.segment(clip, ["red square", "blue circle"])


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- export ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "masks.json",
        "overlay.mp4",
        "masks/car_001.png",
        "masks/mask_01.png",
        "masks/frame_000001.png",
        "masks",
    ],
)
def test_files_that_no_export_wrote_are_not_replaced(engine, found, tmp_path, name):
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"years of work")
    before = content(tmp_path / "out")
    with pytest.raises(StoreError, match="would be overwritten"):
        engine.export(found.handle, tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_an_export_is_replaced_by_a_later_one(engine, found, tmp_path):
    engine.export(found.handle, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine", "utf-8")
    before = content(tmp_path / "out")
    engine.export(found.objects[0].handle, tmp_path / "out")
    after = content(tmp_path / "out")
    assert after["notes.txt"] == b"mine" and after["masks.json"] != before["masks.json"]
    assert not [name for name in after if ".partial" in name]


@pytest.mark.parametrize("stage", ["masks", "overlay"])
def test_an_export_that_is_broken_off_leaves_the_earlier_one_whole(engine, found, tmp_path, stage):
    engine.export(found.handle, tmp_path / "out")
    before = content(tmp_path / "out")

    def on_progress(report):
        if report.stage == stage and report.done == 2:
            run.cancel()

    run = Run(on_progress)
    with pytest.raises(CancelledError):
        engine.export(found.objects[0].handle, tmp_path / "out", run=run)
    assert content(tmp_path / "out") == before


def test_the_source_is_never_overwritten_by_its_overlay(engine, clip, tmp_path):
    first = engine.export(engine.segment(clip, "red square").handle, tmp_path / "out")["overlay"]
    again = engine.segment(first, "blue circle")
    before = content(tmp_path / "out")
    with pytest.raises(RequestError, match="the source of this result"):
        engine.export(again.handle, tmp_path / "out")
    assert content(tmp_path / "out") == before


# ---- view -----------------------------------------------------------------------------------------


def test_a_mask_that_does_not_cover_the_frame_is_said(engine, clip):
    sparse = engine.segment(clip, "red square", stride=2)
    assert engine.view(sparse.handle, frame_index=4).warnings == ()
    (warning,) = engine.view(sparse.handle, frame_index=5).warnings
    assert "Mask 1 was not computed" in warning and "frame with this mask is 4" in warning


def test_two_media_in_one_view_are_refused(engine, clip, found, tmp_path):
    other = synthetic_clip(tmp_path / "other.mp4", frames=4)
    handle = engine.find_media(other).handle
    for handles in ([found.handle, handle], [found.media.handle, str(other)], [str(other), found.handle]):
        with pytest.raises(RequestError, match=r"different images or videos|not to"):
            engine.view(handles)
    assert engine.view([found.handle, found.media.handle, str(clip)]).legend


@pytest.mark.parametrize("call", ["view", "find_media", "find_frame"])
def test_a_look_at_a_file_can_be_cancelled(engine, clip, call):
    run = Run()
    run.cancel()
    with pytest.raises(CancelledError):
        getattr(engine, call)(str(clip), *((0.1,) if call == "find_frame" else ()), run=run)


# ---- what changes ---------------------------------------------------------------------------------


def test_a_handle_of_a_folder_survives_files_that_are_no_frames(engine, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (30, 20), (number, 90, 90)).save(folder / f"{number}.png")
    handle = engine.find_media(folder).handle
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "masks.json").write_text("{}", "utf-8")
    assert engine.find_media(handle).frame_count == 3
    Image.new("RGB", (30, 20)).save(folder / "3.png")
    with pytest.raises(MediaNotFoundError, match="has changed"):
        engine.find_media(handle)


def test_a_file_that_is_still_being_written_is_not_remembered(engine, clip, tmp_path, monkeypatch):
    growing = tmp_path / "growing.mp4"
    shutil.copy(clip, growing)
    from sa2va_tools.engine import library

    real = library.open_media

    def slow(path, *others, **how):
        media = real(path, *others, **how)
        with growing.open("ab") as file:
            file.write(b"more")
        return media

    monkeypatch.setattr(library, "open_media", slow)
    with pytest.raises(MediaUnreadableError, match="changed while it was being read"):
        engine.describe(growing)
    assert engine.library.store.handles() == ()


def test_a_region_can_be_marked_after_the_last_frame_of_the_stride(engine, clip):
    """The clip has more frames than the stride reaches."""
    last = engine.find_media(clip).frame_count - 1
    result = engine.track(clip, Region(box_xyxy=(10, 10, 60, 60)), frame_index=last, stride=last - 1)
    assert last in result.objects[0].track.frame_indices


def test_a_file_that_is_replaced_during_a_call_gives_no_result_and_leaves_no_frames(tmp_path):
    path, other = synthetic_clip(tmp_path / "a.mp4", frames=6), synthetic_clip(tmp_path / "b.mp4", frames=7)
    first = path.read_bytes()
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        engine.describe(other)  # the model is loaded
        handle = engine.find_media(path).handle

        def replaced(report):
            if report.stage == "look":
                path.write_bytes(other.read_bytes())

        with pytest.raises(MediaUnreadableError, match="changed while it was being processed"):
            engine.segment(path, "the red square", run=Run(replaced))
        assert not [name for name in engine.library.store.handles() if name.startswith("mask:")]
        path.write_bytes(first)
        result = engine.segment(path, "the red square", gate_by_object_score=False)
        assert result.media.handle == handle and result.provenance.encoder_passes in (0, 6)
        assert result.provenance.encoder_passes == result.provenance.frames


def test_a_cancelled_call_leaves_no_frames_of_a_file_that_was_replaced(tmp_path):
    path, other = synthetic_clip(tmp_path / "a.mp4", frames=6), synthetic_clip(tmp_path / "b.mp4", frames=7)
    same = shutil.copy(path, tmp_path / "same.mp4")

    def replaced(report):
        if report.stage == "look":
            path.write_bytes(other.read_bytes())
        if report.stage == "propagate":
            run.cancel()

    run = Run(replaced)
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        engine.describe(other)  # the model is loaded
        with pytest.raises(CancelledError):
            engine.segment(path, "the red square", gate_by_object_score=False, run=run)
        result = engine.segment(same, "the red square", gate_by_object_score=False)
        assert result.provenance.encoder_passes == result.provenance.frames == 6


def test_limits_hold_for_handles_too(engine, clip, tmp_path):
    handle = engine.find_media(clip).handle
    for limits in ({"max_frames": 3}, {"max_duration_s": 0.2}, {"max_pixels": 99}, {"max_bytes": 99}):
        with FakeEngine(tmp_path / "store") as other:
            other.library.limits = MediaLimits(**limits)
            with pytest.raises(MediaTooLargeError, match=r"at most|the most|limit") as said:
                other.describe(handle)
            assert "SA2VA_LIMITS__" in said.value.hint


# ---- names and sizes that cannot be ---------------------------------------------------------------


def test_an_overlay_of_somebody_else_is_safe_from_a_second_export_too(engine, found, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "overlay.mp4").write_bytes(b"years of work")
    for formats in (None, ["overlay"]):
        with pytest.raises(StoreError, match="would be overwritten"):
            engine.export(found.handle, tmp_path / "out", formats=formats)
    assert content(tmp_path / "out") == {"overlay.mp4": b"years of work"}


def test_a_source_among_the_masks_of_an_earlier_export_is_kept(engine, clip, tmp_path):
    engine.export(engine.segment(clip, "red square").handle, tmp_path / "out")
    again = engine.segment(tmp_path / "out" / "masks" / "frame_000002.png", "blue circle")
    before = content(tmp_path / "out")
    with pytest.raises(RequestError, match="the source of this result"):
        engine.export(again.handle, tmp_path / "out")
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize(("name", "error"), [("x" * 300, StoreError), ("a\0b", RequestError)])
def test_names_that_no_disk_takes_are_told(engine, found, tmp_path, name, error):
    with pytest.raises(error, match="folder"):
        engine.export(found.handle, tmp_path / name)


def test_a_view_without_room_is_told(engine, tmp_path):
    with pytest.raises(RequestError, match="too few for 100 frame"):
        engine.view(str(synthetic_clip(tmp_path / "long.mp4", frames=100)), max_frames=100, max_side=64)
    with pytest.raises(RequestError, match="does not fit into 1000 bytes"):
        squares = np.random.default_rng(2).integers(0, 256, (20, 20, 3), np.uint8)
        noise = squares.repeat(20, axis=0).repeat(20, axis=1)  # which shrinking does not blur
        engine.view(engine.find_media(noise).handle, max_side=400, max_bytes=1000)


def test_pictures_of_many_large_masks_can_be_cancelled_between_two(tmp_path):
    """At full size a mask takes long to draw; there are as many checks as masks."""

    class Counting(Run):
        checks = 0

        def raise_if_cancelled(self):
            self.checks += 1
            super().raise_if_cancelled()

    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    masks = [Region(polygon_xy=[(10, 10), (90 + n, 10), (50, 90)]) for n in range(9)]
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        result = engine.track(tmp_path / "a.png", masks)
        for call in (
            lambda run: engine.view(result.handle, run=run),
            lambda run: engine.export(result.handle, tmp_path / "out", formats=["json", "png"], run=run),
            lambda run: engine.track(tmp_path / "a.png", masks, run=run),
        ):
            run = Counting()
            call(run)
            assert run.checks > 2 * len(masks)


@pytest.mark.parametrize("kind", ["png", "overlay", "npz", "coco", "polygons"])
def test_a_single_format_can_be_exported_again(engine, found, tmp_path, kind):
    first = engine.export(found.handle, tmp_path / "out", formats=[kind])
    assert set(first) == {"json", kind} | ({"legend"} if kind == "overlay" else set())
    assert engine.export(found.objects[0].handle, tmp_path / "out", formats=[kind]) == first


@pytest.mark.parametrize(
    ("kind", "name"), [("coco", "coco.json"), ("polygons", "polygons.json"), ("npz", "masks.npz")]
)
def test_a_file_of_someone_else_in_a_folder_of_ours_is_not_replaced(engine, found, tmp_path, kind, name):
    engine.export(found.handle, tmp_path / "out")
    (tmp_path / "out" / name).write_text('{"info": {"description": "years of work"}}', "utf-8")
    before = content(tmp_path / "out")
    with pytest.raises(StoreError, match="would be overwritten"):
        engine.export(found.handle, tmp_path / "out", formats=[kind])
    assert content(tmp_path / "out") == before
