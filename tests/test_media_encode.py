"""Writing videos that play everywhere, with exact times, completely or not at all; and selecting frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_makers import make_folder, make_gif, make_video, number_of, numbered_frame

from sa2va_tools.errors import RequestError, StoreError
from sa2va_tools.media.decode import iter_frames, read_frames
from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.media.media import open_media
from sa2va_tools.media.sampling import first_positions, select_frames, uniform_positions


def write(path: Path, count: int = 10, size_wh=(64, 48), fps=Fraction(10), times=None) -> Path:
    with VideoWriter(path, size_wh, fps) as writer:
        for index in range(count):
            writer.write(numbered_frame(index, size_wh), times[index] if times else None)
    return path


def test_output_plays_in_browsers(tmp_path):
    path = write(tmp_path / "a.mp4")
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
    media = open_media(path)
    assert (media.size_wh, media.frame_count, media.fps) == ((64, 48), 10, Fraction(10))
    assert media.duration_s == pytest.approx(1.0)
    assert [number_of(rgb) for _, rgb in iter_frames(media)] == list(range(10))
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_variable_times_are_kept(tmp_path):
    times = [0.0, 0.04, 0.5, 0.51, 2.0]
    media = open_media(write(tmp_path / "a.mp4", 5, times=times))
    assert media.timestamps_s == pytest.approx(times, abs=1e-4)


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)])
def test_rates_are_kept(tmp_path, fps):
    media = open_media(write(tmp_path / "a.mp4", 48, fps=fps))
    assert float(media.fps) == pytest.approx(float(fps), rel=1e-4)
    assert media.timestamps_s == pytest.approx([float(index / fps) for index in range(48)], abs=1e-3)


def test_odd_sizes_are_padded(tmp_path):
    media = open_media(write(tmp_path / "a.mp4", 3, size_wh=(63, 47)))
    assert media.size_wh == (64, 48)
    rgb = read_frames(media, [0])[0].astype(int)
    assert np.abs(rgb[-1] - rgb[-2]).max() <= 4 and np.abs(rgb[:, -1] - rgb[:, -2]).max() <= 4


def test_colours_survive(tmp_path):
    colours = np.zeros((48, 64, 3), np.uint8)
    colours[:, :32], colours[:, 32:] = (230, 60, 30), (20, 120, 240)
    with VideoWriter(tmp_path / "a.mp4", (64, 48), Fraction(10)) as writer:
        writer.write(colours)
    rgb = read_frames(open_media(tmp_path / "a.mp4"), [0])[0].astype(int)
    assert np.abs(rgb[24, 8] - (230, 60, 30)).max() <= 6
    assert np.abs(rgb[24, 56] - (20, 120, 240)).max() <= 6


def test_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"before")

    def fail_midway():
        with VideoWriter(path, (64, 48), Fraction(10)) as writer:
            writer.write(numbered_frame(0))
            raise KeyError("the caller's own")

    with pytest.raises(KeyError):
        fail_midway()
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"] and path.read_bytes() == b"before"


def test_no_frames_no_file(tmp_path):
    with pytest.raises(RequestError, match="No frame"), VideoWriter(tmp_path / "a.mp4", (8, 8), Fraction(1)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wrong_frames_and_times_are_refused(tmp_path):
    bad = [
        (np.zeros((48, 63, 3), np.uint8), None),
        (np.zeros((48, 64, 3), np.float32), None),
        (numbered_frame(0), -1.0),
        (numbered_frame(0), float("nan")),
        (numbered_frame(0), 0.5),
    ]
    for frame, time_s in bad:
        with pytest.raises(RequestError), VideoWriter(tmp_path / "a.mp4", (64, 48), Fraction(10)) as writer:
            writer.write(numbered_frame(0), 0.5)
            writer.write(frame, time_s)
    with pytest.raises(RequestError):
        VideoWriter(tmp_path / "a.mp4", (0, 4), Fraction(10))
    with pytest.raises(RequestError):
        VideoWriter(tmp_path / "a.mp4", (4, 4), Fraction(10)).write(numbered_frame(0))
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="cannot be written"):
        write(tmp_path / "none" / "a.mp4")


def test_select_frames_by_time_and_stride(tmp_path):
    media = open_media(make_video(tmp_path / "a.mp4", 20))
    assert select_frames(media) == tuple(range(20))
    assert select_frames(media, start_s=0.3, end_s=0.6) == (3, 4, 5, 6)
    assert select_frames(media, start_s=1.8) == (18, 19)
    assert select_frames(media, end_s=0.0) == (0,)
    assert select_frames(media, start_s=0.25, end_s=99, stride=5) == (3, 8, 13, 18)


def test_select_frames_follows_uneven_times(tmp_path):
    # shown at 0, 1.0, 1.1 and 1.2 s
    media = open_media(make_gif(tmp_path / "a.gif", [1000, 100, 100, 2000]))
    assert select_frames(media, start_s=0.5, end_s=1.15) == (1, 2)


@pytest.mark.parametrize(
    "bad",
    [
        {"start_s": -1.0},
        {"end_s": -0.1},
        {"start_s": 1.0, "end_s": 0.5},
        {"start_s": 2.5},
        {"start_s": float("nan")},
        {"end_s": float("inf")},
    ],
)
def test_range_error_has_the_duration(tmp_path, bad):
    media = open_media(make_video(tmp_path / "a.mp4", 20))
    with pytest.raises(RequestError, match=r"2\.000 s"):
        select_frames(media, **bad)


def test_stride_and_images(tmp_path):
    folder = make_folder(tmp_path / "f", ["1.png"])
    image = open_media(folder / "1.png")
    assert select_frames(image) == select_frames(image, stride=3) == (0,)
    with pytest.raises(RequestError, match="no time range"):
        select_frames(image, start_s=1.0)
    with pytest.raises(RequestError, match="stride"):
        select_frames(open_media(folder), stride=0)


def test_key_positions():
    assert first_positions(10, 5) == (0, 1, 2, 3, 4)
    assert first_positions(3, 5) == (0, 1, 2)
    assert uniform_positions(3, 5) == (0, 0, 1, 1, 2)
    assert uniform_positions(100, 5) == (0, 24, 49, 74, 99)
    assert uniform_positions(7, 1) == (0,)
    assert uniform_positions(0, 5) == ()
