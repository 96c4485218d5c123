"""`video_stream` and `fps` from the call to the handle and back: media is opened again as it was read."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from media_makers import make_folder, make_video, number_of
from picture_makers import make_colour_video, make_patches, make_streams
from PIL import Image

from sa2va_tools.engine.clip import frame_cache_key
from sa2va_tools.errors import RequestError
from sa2va_tools.media.decode import read_frames
from sa2va_tools.run import Run
from sa2va_tools.testing import FakeEngine

SMALL, LARGE = (64, 48), (128, 96)
NAMES = [f"{index}.png" for index in range(6)]


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path / "store") as engine:
        yield engine


@pytest.fixture
def film(tmp_path):
    return make_streams(tmp_path / "film.mkv", [SMALL, LARGE, SMALL], default=[1])


def read_number(engine: FakeEngine, source: object, frame_index: int) -> int:
    media = engine.library.open(source, Run()).media
    return number_of(read_frames(media, [frame_index])[0])


def test_each_stream_has_its_handle(engine, film):
    usual = engine.find_media(film)
    refs = [engine.find_media(film, video_stream=number) for number in range(3)]
    assert [ref.size_wh for ref in refs] == [SMALL, LARGE, SMALL]
    assert len({ref.handle for ref in refs}) == 3 and refs[1].handle == usual.handle
    for number, ref in enumerate(refs):
        assert engine.find_media(ref.handle) == ref
        assert read_number(engine, ref.handle, 3) == 3 + 2 * number
    assert engine.find_media(refs[0].handle, video_stream=2) == refs[2]


def test_a_handle_keeps_its_stream_after_a_restart(engine, film, tmp_path):
    handle = engine.segment(film, "a box", video_stream=2).handle
    with FakeEngine(tmp_path / "store") as other:
        assert other.find_media(handle).size_wh == SMALL
        assert read_number(other, handle, 5) == 9
        assert other.extend(handle, "a ball").media.handle == other.find_media(handle).handle
        assert other.view(handle).media.size_wh == SMALL
        files = other.export(handle, tmp_path / "out")
    with av.open(files["overlay"]) as container:
        assert container.streams.video[0].width == SMALL[0]


def test_files_of_one_stream_have_one_handle_as_before(engine, tmp_path):
    """The first stream, which was read at all times, is no part of the identity."""
    path = make_video(tmp_path / "a.mp4", 4)
    assert engine.find_media(path, video_stream=0) == engine.find_media(path)
    media = engine.library.open(path, Run()).media
    assert frame_cache_key(media, 3) == (media.content_hash, 3)


def test_frames_of_several_streams_are_cached_apart(engine, film):
    media = [engine.library.open(film, Run(), video_stream=number).media for number in (0, 1, 2)]
    assert len({frame_cache_key(each, 0) for each in media}) == 3


def test_masks_of_another_stream_are_refused(engine, film):
    mask = engine.segment(film, "a box", video_stream=0).objects[0].handle
    with pytest.raises(RequestError, match="belongs to media:"):
        engine.caption_region(film, mask, video_stream=2)


@pytest.mark.parametrize("method", ["describe", "segment", "ground", "track", "caption_region", "stream"])
def test_every_call_takes_both(engine, film, tmp_path, method):
    folder = make_folder(tmp_path / "clip", NAMES)
    rest = {"describe": [], "ground": [], "segment": ["a box"], "stream": ["a box"]}
    arguments = rest.get(method, [(5, 5, 20, 20)])
    results = [
        getattr(engine, method)(film, *arguments, video_stream=0),
        getattr(engine, method)(folder, *arguments, fps=12),
    ]
    results = [each.wait() if method == "stream" else each for each in results]
    assert results[0].media.size_wh == SMALL and results[1].media.fps == "12"
    assert not any("frames per second are assumed" in warning for warning in results[1].warnings)


def test_each_rate_has_its_handle(engine, tmp_path):
    folder = make_folder(tmp_path / "clip", NAMES)
    usual, slow = engine.find_media(folder), engine.find_media(folder, fps=2)
    assert engine.find_media(folder, fps=24).handle == usual.handle != slow.handle
    assert (usual.duration_s, slow.duration_s) == (0.25, 3.0)
    assert engine.find_frame(slow.handle, 1.2) == 2 and engine.find_frame(usual.handle, 0.1) == 2
    result = engine.segment(slow.handle, "a box", start_s=1)
    assert result.objects[0].times_s == (1, 1.5, 2, 2.5)
    assert engine.extend(result.handle, "a ball").objects[1].times_s == (1, 1.5, 2, 2.5)
    document = json.loads(engine.masks_json(result.handle))
    assert document["media"]["fps"] == "2"
    assert engine.find_media(usual.handle, fps=Fraction(2)) == slow


def test_overlays_have_the_given_rate(engine, tmp_path):
    folder = make_folder(tmp_path / "clip", NAMES)
    result = engine.segment(folder, "a box", fps=5)
    with av.open(engine.export(result.handle, tmp_path / "out")["overlay"]) as container:
        assert container.streams.video[0].average_rate == 5


def test_bytes_of_a_file(engine, film):
    assert (
        engine.find_media(film.read_bytes(), video_stream=2).handle
        == engine.find_media(film, video_stream=2).handle
    )


def test_frames_in_memory(engine):
    frames = np.zeros((3, 48, 64, 3), np.uint8)
    with pytest.raises(RequestError, match="no video streams"):
        engine.find_media(frames, video_stream=0)
    handle = engine.find_media(frames, fps=8).handle
    with pytest.raises(RequestError, match="whose frame rate is fixed"):
        engine.find_media(handle, fps=4)


def test_old_records_are_read(engine, tmp_path):
    """Media that were stored before there was a choice."""
    from sa2va_tools.store.records import extract_media_identity, media_from_json, media_to_json

    media = engine.library.open(make_video(tmp_path / "a.mp4", 4), Run()).media
    record = media_to_json(media)
    old = {
        name: record[name]
        for name in record
        if name not in ("video_stream", "given_fps", "pixel_aspect", "start_s")
    }
    assert extract_media_identity(old) == extract_media_identity(record)
    found = media_from_json(old)
    assert (found.video_stream, found.given_fps, found.pixel_aspect) == (None, None, 1)
    assert number_of(read_frames(found, [2])[0]) == 2


# ---- field 40: pixels that are not square -----------------------------------------------------------


@pytest.mark.parametrize(("rotation", "ratio"), [(None, "2"), ((90, False, False), "1/2")])
def test_field_40_overlays_keep_the_shape_of_pixels(engine, tmp_path, rotation, ratio):
    path = make_video(tmp_path / "a.mp4", 4, sar=Fraction(2), rotation=rotation)
    result = engine.segment(path, "a box")
    assert sum("not square" in warning for warning in result.warnings) == 1
    with av.open(engine.export(result.handle, tmp_path / "out")["overlay"]) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(ratio)
    assert engine.view(result.handle, frame_index=0).media.size_wh == result.media.size_wh


def test_overlays_of_square_pixels_say_nothing(engine, tmp_path):
    result = engine.segment(make_video(tmp_path / "a.mp4", 4), "a box")
    with av.open(engine.export(result.handle, tmp_path / "out")["overlay"]) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 1)


def test_views_and_overlays_of_hdr_are_sdr(engine, tmp_path):
    signal = np.array([[0.58, 0.58, 0.58]])  # white in PQ
    path = make_colour_video(tmp_path / "a.mkv", make_patches(signal), transfer=16)
    with av.open(
        engine.export(engine.segment(path, "a box").handle, tmp_path / "out")["overlay"]
    ) as container:
        stream = container.streams.video[0]
        assert int(stream.codec_context.color_trc) == 1
    import io

    with Image.open(io.BytesIO(engine.view(str(path)).image)) as picture:
        assert picture.convert("L").getextrema()[1] >= 235


# ---- the command line -------------------------------------------------------------------------------


def test_commands_take_both(run, film, tmp_path):
    folder = make_folder(tmp_path / "clip", NAMES)
    for words in (("segment", film, "a box"), ("describe", film), ("track", film, "--box", "5,5,20,20")):
        document = json.loads(run(*words, "--video-stream", "2", "--json").stdout)
        assert document["media"]["size_wh"] == list(SMALL)
    document = json.loads(run("ground", folder, "--fps", "30000/1001", "--json").stdout)
    assert document["media"]["fps"] == 29.97
    assert "128x96" in run("view", film, "--out", "a.png").stdout
    assert "64x48" in run("view", film, "--video-stream", "0", "--out", "a.png").stdout


def test_one_rate_for_several_folders(run, tmp_path):
    folders = [make_folder(tmp_path / name, NAMES) for name in ("a", "b")]
    document = json.loads(run("segment", *folders, "a box", "--fps", "3", "--json").stdout)
    assert [each["media"]["fps"] for each in document["results"]] == [3, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--video-stream", "9"), "no video stream 9; it has 0 (64×48), 1 (128×96), 2 (64×48)"),
        (("--video-stream", "-1"), "--video-stream"),
        (("--fps", "10"), "timestamps of its own"),
        (("--fps", "0"), "--fps is 0"),
        (("--fps", "fast"), "is not a frame rate"),
        (("--fps", "1/0"), "is not a frame rate"),
    ],
)
def test_wrong_options(run, film, words, message):
    result = run("segment", film, "a box", *words)
    assert result.exit_code == 2 and message in " ".join(result.stderr.replace("│", " ").split())


def test_masks_are_read_in_one_way(run, film):
    mask = json.loads(run("segment", film, "a box", "--json").stdout)["masks"][0]["handle"]
    for words in (("track", mask), ("caption", mask), ("view", mask)):
        result = run(*words, "--video-stream", "0")
        assert result.exit_code == 2 and "Leave out --video-stream and --fps" in result.stderr
