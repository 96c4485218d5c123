"""Still images whose last bytes are missing: read when no pixel depends on these bytes.

The file is decoded with two different endings. Equal pixels mean that what is missing held none.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.diagnosis.cut_off import find_cut
from sa2va_tools.media.failures import translate_decoder_errors
from sa2va_tools.media.sniff import file_suffix

_FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".gif": "GIF"}
_FILL_BYTES = 64
_SPARE_BYTES = 8
"""More than the coded pixels of a JPEG have at their end without need."""
_JPEG_END = b"\xff\xd9"
_JPEG_MARK = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_BANDS = 64


def read_without_end(path: Path) -> Image.Image | None:
    """The image of a file that lacks its last bytes, if all pixels are there, else None: also for a file that
    is not cut off. Its size must have been checked. Raises MediaError, OutOfMemoryError."""
    if not find_cut(path):
        return None
    with translate_decoder_errors(path):
        data = path.read_bytes()
    kind = _FORMATS.get(file_suffix(data))
    if kind is None:
        return None
    if kind == "JPEG":
        return _read_jpeg(path, data)
    endings = [b"\0" * _FILL_BYTES, b"\xaa" * _FILL_BYTES]
    # A PNG has check sums of its own.
    return _decode_alike(path, data, kind, [b"", b""] if kind == "PNG" else endings)


def _read_jpeg(path: Path, data: bytes) -> Image.Image | None:
    """Zero bytes at the end were never written, or they are pixels of one colour: then none is too many."""
    endings = [_JPEG_END, b"\x55" * _FILL_BYTES + _JPEG_END]
    written = data.rstrip(b"\0")
    if written.endswith(b"\xff"):  # before a zero, it is part of the pixels; at the end, half of the end
        written = data[: len(written) + 1] if len(data) > len(written) else written[:-1]
    if not _has_all_scans(written):
        return None
    image = _decode_alike(path, written, "JPEG", endings)
    if image is None:
        data = data.removesuffix(_JPEG_END[:1])
        has_spare = _decode_alike(path, data[:-1], "JPEG", endings) is not None
        image = None if has_spare else _decode_alike(path, data, "JPEG", endings)
    return image


def _decode_alike(path: Path, data: bytes, kind: str, endings: list[bytes]) -> Image.Image | None:
    """The image if it is the same with both endings, else None."""
    try:
        first, second = (_decode(path, data + ending, kind) for ending in endings)
    except MediaUnreadableError:
        return None
    same = first.mode == second.mode and np.array_equal(np.asarray(first), np.asarray(second))
    return first if same else None


def _decode(path: Path, data: bytes, kind: str) -> Image.Image:
    with translate_decoder_errors(path, "decoded"):
        image = Image.open(io.BytesIO(data), formats=(kind,))
        image.load()
    return image


def _has_all_scans(jpeg: bytes) -> bool:
    """Whether the file begins all scans, of every component and coefficient, in a progressive image to the
    last bit: a cut between two scans leaves a coarse picture."""
    wanted = 0
    seen = set()
    at = 2
    while found := _JPEG_MARK.search(jpeg, at):
        mark = found[1][0]
        body = found.end() + 2
        size = int.from_bytes(jpeg[found.end() : body], "big")
        fields = jpeg[body : found.end() + size]
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC) and len(fields) > 5:
            wanted = fields[5] * _BANDS
        if mark == 0xDA and len(fields) > 3:
            first, last, bits = fields[-3:]
            if not bits & 0x0F:
                components = fields[1 : 1 + 2 * fields[0] : 2]
                seen |= {(component, band) for component in components for band in range(first, last + 1)}
        at = found.end() + size
    return wanted > 0 and len(seen) >= wanted
