"""What a source is (a path, the bytes of a file, or pixels), and what kind of file some bytes are.

Looks at types and first bytes only; decodes nothing.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.errors import WrongTypeError

Frame = NDArray[np.uint8] | Image.Image
Pixels = Frame | Iterable[Frame]
MediaSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Pixels

_NOT_FRAMES = (Mapping, Set, io.IOBase)
_MAGIC = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"II+\0", ".tif"),
    (b"MM\0+", ".tif"),
)
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_CONTAINERS = frozenset({b"mif1", b"msf1"})
"""Brands of both HEIC and AVIF; the brands that follow tell which."""
_SNIFF_BYTES = 64


def source_kind(source: object) -> Literal["path", "bytes", "pixels"]:
    """Whether a source is a string or path ("path": also URLs and handles), an encoded file ("bytes"), or an
    array, a PIL image or an iterable of frames ("pixels"; the frames are not checked).

    Raises TypeError for everything else: scalars, None, mappings, sets, open files.
    """
    if isinstance(source, (str, os.PathLike)):
        return "path"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "bytes"
    if isinstance(source, (np.ndarray, Image.Image)):
        return "pixels"
    handle = getattr(source, "handle", None)
    if isinstance(handle, str):
        raise WrongTypeError(
            f"Media cannot be opened from a {type(source).__name__} itself. Give its handle: {handle}."
        )
    is_array = hasattr(source, "__array__")
    if isinstance(source, Iterable) and not isinstance(source, _NOT_FRAMES) and not is_array:
        return "pixels"
    raise WrongTypeError(
        f"Media cannot be opened from an object of type {type(source).__name__}. Give a path, a file:// URL, "
        "a handle, the bytes of a file, a NumPy array of shape (H, W, 3) or (T, H, W, 3) and dtype uint8, a "
        "PIL image, or a list or iterator of frames."
        + (" Convert it with numpy.asarray first." if is_array else "")
    )


def file_suffix(data: bytes | bytearray | memoryview) -> str:
    """The suffix for an encoded file, by its first 64 bytes; ".bin" for unknown formats."""
    head = bytes(data[:_SNIFF_BYTES])
    if head[4:8] == b"ftyp":
        return _iso_suffix(head)
    if head[:4] == b"RIFF":
        return {b"WEBP": ".webp", b"AVI ": ".avi"}.get(head[8:12], ".bin")
    if head[:4] == b"\x1aE\xdf\xa3":
        return ".webm" if b"webm" in head else ".mkv"
    return next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), ".bin")


def read_suffix(path: Path) -> str:
    """`file_suffix` of a file on disk, whatever its name. Raises OSError."""
    with path.open("rb") as file:
        return file_suffix(file.read(_SNIFF_BYTES))


def _iso_suffix(head: bytes) -> str:
    """MP4 and its relatives, by the brands in their first box."""
    end = min(int.from_bytes(head[:4], "big"), _SNIFF_BYTES)
    major, *compatible = (head[at : at + 4] for at in (8, *range(16, end, 4)))
    brands = {major} if major not in _HEIF_CONTAINERS else {*compatible}
    if brands & _AVIF_BRANDS:
        return ".avif"
    if brands & _HEIC_BRANDS or major in _HEIF_CONTAINERS:
        return ".heic"
    return ".mov" if major == b"qt  " else ".mp4"
