"""A file that is cut anywhere is read up to the cut, with a warning, or the error says that it is cut off."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_makers import make_gif, make_video, numbered_frame
from PIL import Image

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.decode import iter_frames, read_image
from sa2va_tools.media.media import open_media

FIRST_BYTES = (1, 2, 3, 5, 8, 10, 20, 40, 63, 100, 200, 300, 600, 1000)
FRONT_INDEX = {"movflags": "+faststart"}
FRAGMENTS = {"movflags": "+frag_keyframe+empty_moov"}
VIDEOS = [
    ("a.mp4", "libx264", None),
    ("b.mp4", "libx264", FRONT_INDEX),
    ("c.mp4", "libx264", FRAGMENTS),
    ("a.mov", "libx264", None),
    ("a.mkv", "libx264", None),
    ("a.webm", "libvpx", None),
    ("b.webm", "libvpx", {"live": "1"}),
    ("a.avi", "mpeg4", None),
    ("a.ts", "libx264", None),
    ("a.flv", "libx264", None),
    ("a.ogv", "libvpx", None),
    ("a.mpg", "mpeg2video", None),
    ("a.wmv", "wmv2", None),
    ("a.mxf", "mpeg2video", None),
    ("a.ivf", "libvpx", None),
]


def cuts(length: int) -> list[int]:
    """In the header, at every twentieth, and near the end."""
    shares = [length * part // 20 for part in range(1, 20)]
    ends = [length - missing for missing in (600, 100, 1)]
    return sorted({cut for cut in (*FIRST_BYTES, *shares, *ends) if 0 < cut < length})


@pytest.mark.parametrize(("name", "codec", "muxer"), VIDEOS)
def test_video_cut_anywhere(tmp_path, name, codec, muxer, capfd):
    rate = Fraction(25 if codec in ("mpeg2video", "wmv2") else 10)
    options = {"g": "6"} if codec == "libx264" else {}
    size_wh = (320, 240) if name.endswith("mxf") else (64, 48)
    path = make_video(
        tmp_path / name, 24, codec=codec, muxer=muxer, rate=rate, options=options, size_wh=size_wh
    )
    whole = open_media(path)
    assert whole.complete and whole.warnings == () and whole.frame_count == 24
    data = path.read_bytes()
    for cut in cuts(len(data)):
        if cut % {"a.ts": 188, "a.mpg": 2048}.get(name, cut + 1) == 0:  # between packets, nothing shows it
            continue
        path.write_bytes(data[:cut])
        try:
            media = open_media(path)
        except MediaUnreadableError as error:
            assert f"{name} is cut off: " in error.message, (cut, error.message)
            assert "Download or copy it again" in error.hint or "xport or download it again" in error.hint
        else:
            assert not media.complete and "cut off" in media.warnings[0], (cut, media)
            assert len(list(iter_frames(media))) == media.frame_count
    assert capfd.readouterr() == ("", "")


def noise() -> Image.Image:
    """With detail everywhere, so that every byte of a file matters."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))


STILLS = [
    ("a.jpg", {}),
    ("b.jpg", {"progressive": True}),
    ("a.png", {}),
    ("a.webp", {}),
    ("b.webp", {"lossless": True}),
    ("a.gif", {}),
    ("a.tif", {}),
    ("b.tif", {"compression": "tiff_lzw"}),
    ("c.tif", {"compression": "tiff_deflate", "big_tiff": True}),
    ("a.bmp", {}),
    ("a.avif", {}),
]


@pytest.mark.parametrize(("name", "options"), STILLS)
def test_image_cut_anywhere(tmp_path, name, options):
    """It is read only if no pixel is lost."""
    path = tmp_path / name
    if name.endswith("avif"):
        pytest.importorskip("PIL._avif")
    noise().save(path, **options)
    pixels = read_image(open_media(path))
    data = path.read_bytes()
    for cut in (*cuts(len(data)), *(len(data) - missing for missing in range(1, 24))):
        path.write_bytes(data[:cut])
        try:
            media = open_media(path)
        except MediaUnreadableError as error:
            assert f"{name} is cut off: " in error.message, (cut, error.message)
        else:
            assert len(data) - cut < 24
            assert media.warnings == (f"{name} lacks its last bytes; all its pixels are there.",)
            assert np.array_equal(read_image(media), pixels)


@pytest.mark.parametrize(
    ("name", "options", "missing"),
    [
        ("a.jpg", {}, (1, 2)),
        ("b.jpg", {"progressive": True}, (1, 2)),
        ("a.png", {}, (1, 12, 16)),
        ("a.gif", {}, (1, 2)),
    ],
)
def test_image_that_lacks_only_its_last_bytes(tmp_path, name, options, missing):
    path = tmp_path / name
    noise().save(path, **options)
    pixels = read_image(open_media(path))
    data = path.read_bytes()
    for count in missing:
        path.write_bytes(data[:-count])
        media = open_media(path)
        assert media.complete and "lacks its last bytes" in media.warnings[0]
        assert np.array_equal(read_image(media), pixels)


def test_progressive_jpeg_that_is_cut_between_two_scans(tmp_path):
    """All its pixels are there, but coarse."""
    path = tmp_path / "a.jpg"
    noise().save(path, progressive=True)
    data = path.read_bytes()
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    path.write_bytes(data[: data.rindex(b"\xff\xc4", 0, scans[-1])])
    with pytest.raises(MediaUnreadableError, match=r"a\.jpg is cut off"):
        open_media(path)


def test_jpeg_with_zeros_instead_of_its_end(tmp_path):
    """As a download of several parts leaves it; the decoder takes zeros for picture data."""
    path = tmp_path / "a.jpg"
    noise().save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(MediaUnreadableError, match=r"a\.jpg is cut off"):
        open_media(path)
    path.write_bytes(data[:-2] + bytes(300))
    assert "lacks its last bytes" in open_media(path).warnings[0]


def test_jpeg_whose_last_pixels_are_zero_bytes(tmp_path):
    """Of one colour all over: they must not be taken for bytes that were never written."""
    path = tmp_path / "a.jpg"
    Image.new("L", (64, 48), 100).save(path, quality=95, optimize=True)
    data = path.read_bytes()
    assert data.endswith(bytes(8) + b"\xff\xd9")
    expected = read_image(open_media(path))
    path.write_bytes(data[:-2])
    media = open_media(path)
    assert "lacks its last bytes" in media.warnings[0]
    assert np.array_equal(read_image(media), expected)
    for short in (data[:-12], data[:-2] + bytes(64)):  # pixels are missing; zeros beyond the pixels
        path.write_bytes(short)
        with pytest.raises(MediaUnreadableError, match=r"a\.jpg is cut off"):
            open_media(path)


def test_jpeg_whose_last_pixels_are_one_bits(tmp_path):
    """A byte 0xff in the coded pixels is followed by a zero, which is no unwritten byte."""
    path = tmp_path / "a.jpg"
    rng = np.random.default_rng(0)
    data = b""
    while not data.endswith(b"\xff\0\xff\xd9"):
        pixels = rng.integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(pixels).save(path, quality=95, optimize=True)
        data = path.read_bytes()
    expected = read_image(open_media(path))
    path.write_bytes(data[:-2])
    assert np.array_equal(read_image(open_media(path)), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tif", ".bmp"])
def test_bytes_after_the_end_are_ignored(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    noise().save(path)
    pixels = read_image(open_media(path))
    path.write_bytes(path.read_bytes() + b"appended by a camera" * 20)
    media = open_media(path)
    assert media.warnings == () and np.array_equal(read_image(media), pixels)


def test_animation_without_its_end(tmp_path):
    path = make_gif(tmp_path / "a.gif", [100] * 4)
    path.write_bytes(path.read_bytes()[:-1])
    media = open_media(path)
    assert media.frame_count == 4 and not media.complete
    assert media.warnings == ("a.gif is cut off: it ends early, and its 4 readable frames are used.",)


def test_index_that_was_never_written_has_advice(tmp_path):
    """A recorder that lost power."""
    path = make_video(tmp_path / "a.mp4", 12)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(MediaUnreadableError, match=r"its index \(the moov box\).* is missing") as caught:
        open_media(path)
    assert "untrunc" in caught.value.hint


def test_file_of_an_unfinished_download(tmp_path):
    path = tmp_path / "clip.mp4.part"
    path.write_bytes(bytes(range(3, 250)) * 20)
    with pytest.raises(MediaUnreadableError, match="download that is not complete"):
        open_media(path)


def test_frames_of_a_folder_that_lack_their_last_bytes(tmp_path: Path):
    for index in range(3):
        Image.fromarray(numbered_frame(index)).save(tmp_path / f"{index}.jpg")
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:-2])
    media = open_media(tmp_path)
    assert media.frame_count == 3 and media.complete
    assert (
        media.warnings[0]
        == "1 of the frames in " + tmp_path.name + " lacks its last bytes; all pixels are there."
    )
    assert len(list(iter_frames(media))) == 3
