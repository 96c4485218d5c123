"""Which video stream is read, and alpha channels that are stored beside the frames."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media_makers import make_folder, make_gif, make_video, number_of, numbered_frame
from picture_makers import make_streams
from PIL import Image

from sa2va_tools.errors import MediaUnreadableError, RequestError
from sa2va_tools.media.decode import iter_frames, read_frames
from sa2va_tools.media.media import open_media
from sa2va_tools.media.streams import check_stream_number

SMALL, LARGE = (64, 48), (128, 96)


def test_field_03_default_is_the_second_stream(tmp_path):
    media = open_media(make_streams(tmp_path / "a.mkv", [SMALL, LARGE], default=[1]))
    assert (media.size_wh, media.video_stream) == (LARGE, 1)
    assert number_of(read_frames(media, [3])[0]) == 5
    (warning,) = media.warnings
    assert "2 video streams; stream 1 (128×96) is read and 0 (64×48) left out" in warning
    assert "--video-stream" in warning and "video_stream=" in warning


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
@pytest.mark.parametrize(
    ("sizes", "default", "chosen"),
    [
        ([SMALL, LARGE], [0, 1], 1),
        ([LARGE, SMALL], [0, 1], 0),
        ([SMALL, SMALL], [0, 1], 0),
        ([SMALL, SMALL, LARGE], [0, 1, 2], 2),
    ],
)
def test_the_largest_of_equal_streams_is_read(tmp_path, suffix, sizes, default, chosen):
    media = open_media(make_streams(tmp_path / f"a.{suffix}", sizes, default=default))
    assert (media.video_stream, media.size_wh) == (chosen, sizes[chosen])
    assert len(media.warnings) == 1


def test_default_wins_over_size(tmp_path):
    assert open_media(make_streams(tmp_path / "a.mkv", [LARGE, SMALL], default=[1])).video_stream == 1


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_caller_chooses(tmp_path, suffix, number):
    media = open_media(make_streams(tmp_path / f"a.{suffix}", [SMALL, LARGE]), video_stream=number)
    assert (media.video_stream, media.size_wh) == (number, (SMALL, LARGE)[number])
    assert media.warnings == () and media.frame_count == 12
    assert [number_of(rgb) for _, rgb in iter_frames(media, [0, 11])] == [2 * number, 11 + 2 * number]


def test_wrong_numbers(tmp_path):
    path = make_streams(tmp_path / "a.mkv", [SMALL, LARGE])
    with pytest.raises(RequestError, match=r"no video stream 2; it has 0 \(64×48\), 1 \(128×96\)"):
        open_media(path, video_stream=2)
    with pytest.raises(RequestError, match="numbered from 0"):
        open_media(path, video_stream=-1)
    for wrong in (1.0, True, "1"):
        with pytest.raises(TypeError, match="video_stream has type"):
            check_stream_number(wrong)


def test_what_has_no_streams(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for path in (
        tmp_path / "a.png",
        make_gif(tmp_path / "a.gif", [100] * 3),
        make_folder(tmp_path / "f", ["1.png"]),
    ):
        with pytest.raises(RequestError, match="no video streams to choose from"):
            open_media(path, video_stream=0)


# ---- covers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mkv", "mjpeg"), ("mp4", "mjpeg"), ("mp4", "png"), ("mov", "mjpeg"), ("mov", "png"), ("avi", "png")],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_single_picture_beside_a_film_is_a_cover(tmp_path, suffix, codec, first):
    """Also if it is larger, the default, and not marked as a cover."""
    order = slice(None, None, 1 if first else -1)
    path = make_streams(
        tmp_path / f"a.{suffix}",
        [LARGE, SMALL][order],
        codecs=[codec, "mpeg4"][order],
        counts=[1, 12][order],
        default=[0, 1],
    )
    media = open_media(path)
    assert (media.size_wh, media.frame_count, media.warnings) == (SMALL, 12, ())


@pytest.mark.parametrize("first", [True, False])
def test_attached_pictures_are_covers(tmp_path, first):
    order = slice(None, None, 1 if first else -1)
    path = make_streams(
        tmp_path / "a.mp4",
        [LARGE, SMALL][order],
        codecs=["mjpeg", "libx264"][order],
        counts=[1, 12][order],
        attached=[0 if first else 1],
    )
    media = open_media(path)
    assert (media.size_wh, media.frame_count, media.warnings) == (SMALL, 12, ())


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "m4a", "mov"])
@pytest.mark.parametrize("attached", [[], [0]])
def test_a_song_with_a_cover_is_audio(tmp_path, suffix, attached):
    path = make_streams(
        tmp_path / "song.mp4", [LARGE], codecs=["mjpeg"], counts=[1], attached=attached, audio=True
    ).rename(tmp_path / f"a.{suffix}")
    with pytest.raises(MediaUnreadableError, match=r"only audio .* besides a cover picture"):
        open_media(path)


def test_a_cover_in_an_avi_that_is_padded(tmp_path):
    """AVI has empty packets where a stream has no frame, and its header counts them."""
    path = make_streams(tmp_path / "a.avi", [LARGE, SMALL], codecs=["mjpeg", "mpeg4"], counts=[1, 12])
    data = bytearray(path.read_bytes())
    length = data.index(b"strh") + 8 + 32  # of the first stream, in frames
    assert int.from_bytes(data[length : length + 4], "little") == 1
    data[length : length + 4] = (12).to_bytes(4, "little")
    path.write_bytes(data)
    assert open_media(path).size_wh == SMALL


def test_a_film_of_one_picture_is_a_film(tmp_path):
    media = open_media(make_streams(tmp_path / "a.mov", [SMALL], codecs=["mjpeg"], counts=[1]))
    assert (media.kind, media.frame_count) == ("video", 1)


def test_two_films_of_pictures_are_films(tmp_path):
    path = make_streams(tmp_path / "a.mkv", [SMALL, LARGE], codecs=["mjpeg", "mjpeg"], counts=[12, 12])
    assert open_media(path).video_stream == 1


def test_a_cover_can_be_chosen(tmp_path):
    path = make_streams(tmp_path / "a.mkv", [SMALL, LARGE], codecs=["libx264", "mjpeg"], counts=[12, 1])
    media = open_media(path, video_stream=1)
    assert (media.size_wh, media.frame_count) == (LARGE, 1)
    assert read_frames(media, [0])[0].shape[1::-1] == LARGE


# ---- alpha beside the frames -------------------------------------------------------------------------


def make_alpha(path: Path, codec: str, count: int = 40) -> Path:
    """Numbered frames whose right half is clear, in groups of 16 frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        stream.options = {"auto-alt-ref": "0", "b": "2M", "g": "16"}
        for index in range(count):
            alpha = np.full((48, 64), 255, np.uint8)
            alpha[:, 32:] = 0
            frame = av.VideoFrame.from_ndarray(np.dstack([numbered_frame(index), alpha]), format="rgba")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("suffix", ["webm", "mkv"])
def test_field_05_alpha_of_webm(tmp_path, codec, suffix):
    media = open_media(make_alpha(tmp_path / f"a.{suffix}", codec))
    assert media.warnings == (f"a.{suffix} has an alpha channel; its frames are shown on white.",)
    frames = dict(iter_frames(media))
    assert sorted(frames) == list(range(40))
    for rgb in frames.values():
        assert rgb[40, 50:].min() > 245 and rgb[40, :25].max() < 250
        assert rgb[5, 5, 0] > 190 and rgb[5, 5, 1] < 60
    for index, rgb in iter_frames(media, [37]):
        assert np.array_equal(rgb, frames[index])


def test_alpha_without_its_decoder_is_told(tmp_path, monkeypatch):
    path = make_alpha(tmp_path / "a.webm", "libvpx-vp9", 3)
    monkeypatch.setattr("sa2va_tools.media.alpha_decoder._ALPHA_DECODERS", {"vp9": "no such decoder"})
    assert open_media(path).warnings == ("a.webm has an alpha channel, which is not read.",)


def test_webm_without_alpha_has_the_decoder_s_own_frames(tmp_path):
    path = make_video(tmp_path / "a.webm", 4, codec="libvpx-vp9")
    with av.open(str(path)) as container:
        for frame, (_, rgb) in zip(container.decode(video=0), iter_frames(open_media(path)), strict=True):
            assert np.array_equal(frame.to_ndarray(format="rgb24"), rgb)


def test_a_cover_that_was_asked_for_has_no_absurd_rate(tmp_path):
    path = make_streams(
        tmp_path / "a.mp4", [SMALL, LARGE], codecs=["libx264", "mjpeg"], counts=[12, 1], attached=[1]
    )
    media = open_media(path, video_stream=1)
    assert (media.frame_count, media.size_wh, media.fps) == (1, LARGE, 25)
