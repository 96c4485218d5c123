"""Pictures in memory: arrays, PIL images, lists, iterators and bytes, with the same handles as equal ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sa2va_tools import Settings, load_engine
from sa2va_tools.errors import MediaNotFoundError, MediaTooLargeError, RequestError
from sa2va_tools.media.decode import read_frames
from sa2va_tools.media.media import open_media
from sa2va_tools.settings import MediaLimits
from sa2va_tools.testing import FakeEngine, synthetic_clip


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path / "store") as engine:
        yield engine


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """(T, H, W, 3) uint8"""
    media = open_media(synthetic_clip(tmp_path_factory.mktemp("media") / "clip.mp4", frames=6))
    return np.stack(read_frames(media, range(6)))


def test_the_same_pixels_in_any_form_are_the_same_media(engine, frames):
    forms = [
        frames,
        list(frames),
        tuple(frames),
        iter(frames),
        (frame for frame in frames),
        [Image.fromarray(frame) for frame in frames],
    ]
    refs = [engine.find_media(form) for form in forms]
    assert len({ref.handle for ref in refs}) == 1
    assert (refs[0].kind, refs[0].size_wh, refs[0].frame_count) == ("video", (96, 64), 6)
    stills = [engine.find_media(frames[0]), engine.find_media(Image.fromarray(frames[0]))]
    assert stills[0].handle == stills[1].handle != refs[0].handle
    assert stills[0].kind == "image" and stills[0].fps is None


def test_frames_have_the_given_rate(engine, frames):
    result = engine.segment(frames, "a box", fps=4)
    assert result.media.fps == "4" and result["a box"].times_s[2] == 0.5
    assert any("24" in warning for warning in engine.segment(frames, "a box").warnings)


def test_every_call_takes_pictures_and_their_handles(engine, frames):
    result = engine.segment(frames, "a box", fps=4)
    for source in (frames, result.media.handle):
        fps = 4 if source is frames else None
        assert engine.describe(source, fps=fps).media.handle == result.media.handle
        assert engine.ground(source, fps=fps).objects
        assert engine.track(source, (10, 10, 40, 40), fps=fps).objects[0].found
        assert engine.caption_region(source, (10, 10, 40, 40), fps=fps).captions
    assert engine.view(result.handle).legend
    assert engine.extend(result.handle, "a ball").media.handle == result.media.handle


def test_what_the_caller_does_with_the_array_later_changes_nothing(engine, frames):
    own = frames.copy()
    handle = engine.find_media(own).handle
    before = engine.view(handle).image
    own[:] = 0
    assert engine.view(handle).image == before
    assert engine.find_media(own).handle != handle


def test_masks_of_pictures_are_saved_like_those_of_files(engine, frames, tmp_path):
    result = engine.segment(frames[0], "a box")
    files = result.save(tmp_path / "still")
    assert sorted(files) == ["json", "legend", "overlay", "png"]
    with Image.open(files["overlay"]) as overlay:
        assert overlay.size == (96, 64)
    video = engine.segment(frames, "a box", fps=5).save(tmp_path / "video", ["overlay"])
    assert open_media(tmp_path / "video" / "overlay.mp4").frame_count == 6
    assert list(video) == ["json", "overlay", "legend"]


def test_the_bytes_of_a_file_are_a_file(engine, tmp_path):
    clip = synthetic_clip(tmp_path / "clip.mp4", frames=4)
    result = engine.segment(clip.read_bytes(), "a box")
    assert result.media.frame_count == 4 and result.media.kind == "video"
    assert result.media.handle == engine.find_media(clip).handle
    for data in (bytearray(clip.read_bytes()), memoryview(clip.read_bytes())):
        assert engine.find_media(data).handle == result.media.handle
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    assert engine.find_media((tmp_path / "a.png").read_bytes()).size_wh == (30, 20)


def test_bytes_survive_the_engine_and_pixels_do_not(tmp_path, frames):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    with FakeEngine(tmp_path / "store") as first:
        kept = first.segment((tmp_path / "a.png").read_bytes(), "a box")
        lost = first.segment(frames, "a box", fps=4)
    with FakeEngine(tmp_path / "store") as second:
        assert second.view(kept.handle).legend
        with pytest.raises(MediaNotFoundError, match="no longer held") as caught:
            second.view(lost.handle)
        assert caught.value.hint
        again = second.segment(frames, "a box", fps=4)
        assert again.media.handle == lost.media.handle
        assert second.view(lost.handle).legend, "the pixels are back"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 3), np.float32), "uint8"),
        (np.zeros((0, 5, 3), np.uint8), "0"),
        (np.zeros((2, 4, 5, 7), np.uint8), "7|shape"),
        (np.zeros((5,), np.uint8), "shape"),
        ([], "frame"),
        ([np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)], "size"),
    ],
)
def test_arrays_that_are_no_pictures(engine, array, message):
    with pytest.raises((RequestError, TypeError), match=message):
        engine.segment(array, "a box")


def test_limits_hold_for_pictures_too(tmp_path, frames):
    limits = MediaLimits(max_frames=3)
    with FakeEngine(tmp_path, limits=limits) as engine:
        with pytest.raises(MediaTooLargeError):
            engine.segment(frames, "a box")
        endless = (frames[0] for _ in iter(int, 1))
        with pytest.raises(MediaTooLargeError):
            engine.segment(endless, "a box")


def test_the_local_engine_caches_pictures_by_their_content(frames, tmp_path):
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path)) as engine:
        first = engine.segment(frames, "the red square", fps=10, gate_by_object_score=False)
        second = engine.segment(list(frames), "the square", fps=10, gate_by_object_score=False)
        assert first.provenance.encoder_passes == 6 and second.provenance.encoder_passes == 0
        assert first.objects[0].found and first.masks.shape == (1, 6, 64, 96)
