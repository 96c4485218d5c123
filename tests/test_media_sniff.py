"""What a source is, and what kind of file some bytes are."""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from media_makers import make_gif, make_video, numbered_frame
from PIL import Image

from sa2va_tools.media.sniff import file_suffix, source_kind

FRAME = numbered_frame(1)


class ArrayLike:
    """Like a tensor of another library: iterable, and convertible to an array."""

    def __iter__(self):
        return iter([FRAME])

    def __array__(self, dtype=None, copy=None):
        return FRAME


@pytest.mark.parametrize("source", ["a.mp4", Path("a.mp4"), "file:///a.mp4", "media:abc", ""])
def test_text_and_paths(source):
    assert source_kind(source) == "path"


@pytest.mark.parametrize("source", [b"", b"abc", bytearray(3), memoryview(b"abc")])
def test_bytes(source):
    assert source_kind(source) == "bytes"


@pytest.mark.parametrize(
    "source",
    [
        FRAME,
        np.zeros(()),
        Image.new("L", (2, 2)),
        [FRAME],
        (FRAME,),
        [],
        deque([FRAME]),
        iter([FRAME]),
        (frame for frame in [FRAME]),
        map(np.asarray, [FRAME]),
    ],
)
def test_pixels(source):
    assert source_kind(source) == "pixels"


@pytest.mark.parametrize(
    "source",
    [
        None,
        3,
        2.5,
        True,
        np.uint8(3),
        np.float32(1),
        {"path": "a"},
        {1, 2},
        object(),
        Image,
        io.BytesIO(b"a"),
    ],
)
def test_other_types_are_type_errors(source):
    with pytest.raises(TypeError, match=type(source).__name__) as caught:
        source_kind(source)
    words = ("path", "file:// URL", "handle", "bytes", "NumPy array", "uint8", "PIL image", "frames")
    assert all(word in str(caught.value) for word in words)


def test_arrays_of_other_libraries():
    with pytest.raises(TypeError, match=r"ArrayLike.*numpy\.asarray"):
        source_kind(ArrayLike())


def image_bytes(fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(FRAME).save(buffer, fmt, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("fmt", "suffix"),
    {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}.items(),
)
def test_suffixes_of_images(fmt, suffix):
    assert file_suffix(image_bytes(fmt)) == suffix


@pytest.mark.parametrize(
    ("suffix", "codec"),
    {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx", ".avi": "mpeg4"}.items(),
)
def test_suffixes_of_videos(tmp_path, suffix, codec):
    data = make_video(tmp_path / f"a{suffix}", 2, codec=codec).read_bytes()
    assert file_suffix(data) == suffix == file_suffix(memoryview(data)[:64])


def test_suffix_of_an_animation(tmp_path):
    assert file_suffix(make_gif(tmp_path / "a.gif", [100, 100]).read_bytes()) == ".gif"


def ftyp(*brands: bytes) -> bytes:
    major, *compatible = brands
    return (16 + 4 * len(compatible)).to_bytes(4, "big") + b"ftyp" + major + bytes(4) + b"".join(compatible)


@pytest.mark.parametrize(
    ("brands", "suffix"),
    [
        ((b"heic", b"mif1", b"heic"), ".heic"),
        ((b"mif1", b"mif1", b"heic"), ".heic"),
        ((b"mif1", b"mif1", b"avif"), ".avif"),
        ((b"mif1",), ".heic"),
        ((b"avif",), ".avif"),
        ((b"avis", b"avis", b"msf1"), ".avif"),
        ((b"isom", b"isom", b"avc1"), ".mp4"),
        ((b"M4V ",), ".mp4"),
        ((b"qt  ",), ".mov"),
    ],
)
def test_suffixes_by_brand(brands, suffix):
    assert file_suffix(ftyp(*brands) + bytes(20)) == suffix


@pytest.mark.parametrize(
    "data", [b"", b"R", b"RIFF\0\0\0\0WAVE", b"%PDF-1.7", b"\0\0\0\x18ft", b"plain text"]
)
def test_suffix_of_other_bytes(data):
    assert file_suffix(data) == ".bin"
