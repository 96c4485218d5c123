"""Frames without a frame rate of their own: bare streams, motion JPEG, folders; and late starts."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from media_makers import make_folder, make_gif, make_video, number_of, numbered_frame
from picture_makers import make_jpegs, make_late_video
from PIL import Image

from sa2va_tools.errors import RequestError
from sa2va_tools.media.decode import iter_frames, read_frames, read_image
from sa2va_tools.media.media import Media, open_media
from sa2va_tools.media.sampling import select_frames

NTSC = Fraction(30000, 1001)


def numbers(media: Media) -> list[int]:
    return [number_of(rgb) for _, rgb in iter_frames(media)]


def write(path: Path, parts: list[bytes]) -> Path:
    path.write_bytes(b"".join(parts))
    return path


# ---- the rate of bare streams ------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [Fraction(10), NTSC, Fraction(50)])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.h264", "libx264", {}),
        ("a.hevc", "libx265", {"x265-params": "log-level=none"}),
        ("a.m2v", "mpeg2video", {}),
    ],
)
def test_the_rate_that_a_bare_stream_tells(tmp_path, name, codec, options, rate):
    if codec == "mpeg2video" and rate == 10:
        pytest.skip("MPEG-2 knows no such rate")
    media = open_media(make_video(tmp_path / name, 12, codec=codec, rate=rate, options=options))
    assert media.warnings == () and media.frame_count == 12 and numbers(media) == list(range(12))
    assert float(media.fps) == pytest.approx(float(rate), rel=1e-3)
    assert media.timestamps_s[6] == pytest.approx(float(6 / rate), abs=1e-3)


def test_a_bare_stream_without_a_rate(tmp_path):
    path = make_video(tmp_path / "a.obu", 12, codec="libsvtav1", file_format="obu")
    media = open_media(path)
    assert media.fps == 25 and "25 frames per second are assumed" in media.warnings[0]
    given = open_media(path, fps=NTSC)
    assert (given.fps, given.given_fps, given.warnings) == (NTSC, NTSC, ())
    assert given.timestamps_s[11] == float(11 / NTSC) and given.last_frame_s == float(1 / NTSC)
    assert number_of(read_frames(given, [7])[0]) == 7


def test_a_caller_may_correct_a_bare_stream(tmp_path):
    media = open_media(make_video(tmp_path / "a.h264", 12), fps=5)
    assert media.fps == 5 and media.timestamps_s[:3] == (0, 0.2, 0.4) and numbers(media) == list(range(12))


def test_a_folder_at_a_given_rate(tmp_path):
    folder = make_folder(tmp_path / "clip", [f"{index}.png" for index in range(6)])
    media = open_media(folder, fps=12)
    assert media.fps == 12 and media.warnings == () and media.duration_s == 0.5
    assert select_frames(media, start_s=0.25) == (3, 4, 5)
    assert open_media(folder, fps=24).given_fps is None  # as without
    assert "24 frames per second" in open_media(folder).warnings[0]


def test_a_rate_where_there_is_one(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    gif = make_gif(tmp_path / "a.gif", [100] * 3)
    video = make_video(tmp_path / "a.mp4", 3)
    for path, why in (
        (tmp_path / "a.png", "an image"),
        (gif, "an animation"),
        (video, "timestamps of its own"),
    ):
        with pytest.raises(RequestError, match=why):
            open_media(path, fps=10)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e9])
def test_impossible_rates(tmp_path, fps):
    with pytest.raises(RequestError, match="expected a number above 0"):
        open_media(make_folder(tmp_path / "clip", ["1.png"]), fps=fps)


@pytest.mark.parametrize("fps", ["25", True, [25]])
def test_rates_of_other_types(tmp_path, fps):
    with pytest.raises(TypeError, match="fps has type"):
        open_media(make_folder(tmp_path / "clip", ["1.png"]), fps=fps)


# ---- motion JPEG -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cam.mjpeg", "cam.mjpg", "cam.jpg", "cam"])
@pytest.mark.parametrize("between", [b"", b"\0\0\0", b"\r\n", b"\xff"])
def test_field_06_jpegs_in_a_row_are_a_video(tmp_path, name, between):
    path = write(tmp_path / name, [jpeg + between for jpeg in make_jpegs(12)])
    media = open_media(path)
    assert (media.kind, media.container, media.frame_count, media.fps) == ("video", "mjpeg", 12, 25)
    assert numbers(media) == list(range(12))
    assert len(media.warnings) == 1 and "25 frames per second are assumed" in media.warnings[0]
    assert open_media(path, fps=8).timestamps_s[4] == 0.5


def make_parts(jpegs: list[bytes], boundary: bytes = b"--frame") -> list[bytes]:
    head = boundary + b"\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    return [head % len(jpeg) + jpeg + b"\r\n" for jpeg in jpegs]


@pytest.mark.parametrize("start", [b"", b"\r\n"])
def test_multipart_motion_jpeg(tmp_path, start):
    """As `curl` saves the stream of an IP camera."""
    media = open_media(write(tmp_path / "cam.bin", [start, *make_parts(make_jpegs(12))]))
    assert (media.kind, media.frame_count) == ("video", 12) and numbers(media) == list(range(12))


def test_random_access_in_motion_jpeg(tmp_path):
    media = open_media(write(tmp_path / "cam.mjpeg", make_jpegs(80)))
    assert [number_of(rgb) for rgb in read_frames(media, [3, 70, 79])] == [3, 70 % 28, 79 % 28]


def assert_is_picture(path: Path) -> None:
    media = open_media(path)
    assert (media.kind, media.container) == ("image", "jpeg") and number_of(read_image(media)) == 0


def test_motion_jpeg_that_breaks_off(tmp_path):
    path = write(tmp_path / "cam.mjpeg", make_jpegs(6))
    path.write_bytes(path.read_bytes()[:-40])
    media = open_media(path)
    assert (media.frame_count, media.complete, media.damaged_frames) == (6, False, (5,))
    assert "is cut off" in media.warnings[0] and "frame 5 may show errors" in media.warnings[1]


def test_photographs_with_other_pictures_behind_them(tmp_path):
    first, second = make_jpegs(2)
    preview = make_jpegs(1, (32, 24))[0]
    assert_is_picture(write(tmp_path / "preview.jpg", [first, preview]))
    assert_is_picture(write(tmp_path / "video.jpg", [first, b"\0\0\0\x18ftypmp42" + bytes(500)]))
    assert_is_picture(write(tmp_path / "tail.jpg", [first, b"SEFH" + bytes(40) + second]))
    assert_is_picture(write(tmp_path / "cut.jpg", [first, second[:200]]))
    described = make_jpegs(1, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")[0]
    assert_is_picture(write(tmp_path / "gain-map.jpg", [described, second]))
    images = [Image.fromarray(numbered_frame(index)) for index in range(2)]
    images[0].save(tmp_path / "burst.jpg", "MPO", save_all=True, append_images=images[1:])
    assert_is_picture(tmp_path / "burst.jpg")


def test_a_thumbnail_inside_the_headers(tmp_path):
    thumbnail = make_jpegs(1)[0]
    assert len(thumbnail) < 60_000
    exif = b"Exif\0\0" + thumbnail
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    jpeg = make_jpegs(1)[0]
    assert_is_picture(write(tmp_path / "a.jpg", [jpeg[:2], segment, jpeg[2:]]))


def test_progressive_motion_jpeg(tmp_path):
    media = open_media(write(tmp_path / "a.mjpeg", make_jpegs(5, progressive=True)))
    assert media.frame_count == 5


# ---- players begin earlier ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_field_29_a_picture_that_starts_late(tmp_path, suffix):
    media = open_media(make_late_video(tmp_path / f"late.{suffix}", 1.5))
    assert media.start_s == pytest.approx(1.5, abs=0.15)
    assert media.timestamps_s[0] == 0 and media.frame_count == 8
    (warning,) = media.warnings
    assert "A player shows the first picture of" in warning and "Seconds here count from" in warning
    with pytest.raises(RequestError, match=r"lasts 0\.8") as caught:
        select_frames(media, start_s=1.5, end_s=2)
    assert "A player's clock shows 1." in caught.value.hint


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_that_starts_with_the_picture(tmp_path, suffix):
    media = open_media(make_late_video(tmp_path / f"a.{suffix}", 0))
    assert media.start_s < 0.1 and media.warnings == ()


def test_a_file_that_starts_late_as_a_whole(tmp_path):
    """Players begin with it."""
    path = make_video(tmp_path / "a.mkv", 8, times_ms=[5000 + 100 * index for index in range(8)])
    media = open_media(path)
    assert media.start_s == 0 and media.warnings == () and media.timestamps_s[1] == pytest.approx(0.1)
