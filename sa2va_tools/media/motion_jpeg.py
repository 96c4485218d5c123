"""Whether a file that begins with a JPEG is a video: bare motion JPEG, as cameras and `curl` save it.

A photograph may hold more JPEGs as well: a preview inside its headers, or, behind it, a larger preview, the
other pictures of a burst, the other eye, or a gain map. What follows a photograph is declared in its headers
or has another size; the frames of a video have one size, follow one another, and declare nothing.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Literal

_SOI = b"\xff\xd8"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Ends the coded pixels of a JPEG: no stuffed byte, no fill byte, no restart."""
_PADDING = b"\0\r\n \xff"
_MAX_PADDING = 4096
_PICTURE_LISTS = (b"MPF\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0")
"""How segments begin that may declare pictures behind this one."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HEAD_BYTES = 1024


def find_motion_jpeg(path: Path) -> Literal["mjpeg", "mpjpeg"] | None:
    """FFmpeg's name of the format: `mjpeg` for JPEGs one after the other, `mpjpeg` for parts with MIME
    headers; None for any other file. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(b"--"):
            return "mpjpeg" if b"image/jpeg" in head.lower() else None
        if not head.startswith(_SOI + b"\xff"):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            first = _read_jpeg(data, 0)
            if first is None or first[2]:
                return None
            second = _read_jpeg(data, _skip_padding(data, first[0]))
    return "mjpeg" if second is not None and second[1] == first[1] and not second[2] else None


def _skip_padding(data: mmap.mmap, at: int) -> int:
    gap = data[at : at + _MAX_PADDING]
    start = gap.find(_SOI + b"\xff")
    return at + start if start >= 0 and not gap[:start].strip(_PADDING) else len(data)


def _read_jpeg(data: mmap.mmap, at: int) -> tuple[int, bytes, bool] | None:
    """Of the JPEG that begins at `at`: its end, its size as four bytes, and whether it may declare other
    pictures. None if there is no whole one."""
    if data[at : at + 2] != _SOI:
        return None
    size = b""
    declares = False
    at += 2
    while True:
        found = _MARKER.search(data, at)
        if found is None:
            return None
        marker = data[found.start() + 1]
        if marker == 0xD9:
            return (found.end(), size, declares) if size else None
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        if marker in _FRAME_HEADERS:
            size = data[found.end() + 3 : found.end() + 7]
        declares |= data[found.end() + 2 : found.end() + 40].startswith(_PICTURE_LISTS)
        at = found.end() + length
