"""Marks in files that sa2va-tools has written, so that it overwrites these and nothing else.

A mark stands at the end of a file, where its format has room for remarks, and contains the SHA-256 of what is
before it. A file that somebody has changed since does not count as ours any more.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

WRITER = "sa2va-tools"
_CHUNK = 1 << 20
_DIGITS = 64
"""Of a SHA-256 in hexadecimal."""


@dataclass(frozen=True, slots=True)
class _Format:
    """How one kind of file ends with a mark."""

    make_end: Callable[[bytes], bytes]
    """The end of the file that contains this mark."""
    replaces: bytes = b""
    """What the file ends with before it is marked, and `make_end` has to end with again, in some way."""


def mark_file(path: Path) -> None:
    """Mark a file that has just been written. ValueError for a kind of file that cannot be marked."""
    with path.open("r+b") as file:
        _mark(file, path.suffix)
        file.flush()
        os.fsync(file.fileno())


def mark_bytes(data: bytes, suffix: str) -> bytes:
    """The content of a file with a mark. ValueError for a kind of file that cannot be marked."""
    file = io.BytesIO(data)
    _mark(file, suffix)
    return file.getvalue()


def _mark(file: BinaryIO, suffix: str) -> None:
    kind = _FORMATS.get(suffix.lower())
    if kind is None:
        raise ValueError(f"{suffix!r} files cannot be marked")
    length = file.seek(0, os.SEEK_END) - len(kind.replaces)
    file.seek(max(length, 0))
    if length < 0 or file.read() != kind.replaces:
        raise ValueError(f"the file does not end as {suffix} files do")
    file.truncate(length)
    if suffix.lower() == ".webp":
        _enlarge_riff(file, length + _end_length(kind))
    end = kind.make_end(_make_mark(_compute_digest(file, length)))
    file.seek(length)
    file.write(end)


def is_own_file(path: Path, name: str | None = None) -> bool:
    """Whether sa2va-tools has written this file (whose name was `name`, if it was moved), and nobody has
    changed it since. False for links, and for what cannot be read."""
    kind = _FORMATS.get(PurePath(name or path.name).suffix.lower())
    if kind is None or path.is_symlink() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            length = file.seek(0, os.SEEK_END) - _end_length(kind)
            if length < 0:
                return False
            file.seek(length)
            end = file.read()
            if WRITER.encode() not in end:
                return False
            return end == kind.make_end(_make_mark(_compute_digest(file, length)))
    except OSError:
        return False


def _make_mark(digest: str) -> bytes:
    return f"{WRITER} {digest}".encode()


def _end_length(kind: _Format) -> int:
    return len(kind.make_end(_make_mark("0" * _DIGITS)))


def _compute_digest(file: BinaryIO, length: int) -> str:
    """Of the first `length` bytes."""
    digest = hashlib.sha256()
    file.seek(0)
    while length and (chunk := file.read(min(_CHUNK, length))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.hexdigest()


# ---- one function per format --------------------------------------------------------------------


def _end_json(mark: bytes) -> bytes:
    """One more entry of the document, which must not be empty."""
    return b',"written_by":"' + mark + b'"}'


def _end_png(mark: bytes) -> bytes:
    """A tEXt chunk before the last one."""
    content = b"tEXtSoftware\0" + mark
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content)) + _IEND


def _end_jpeg(mark: bytes) -> bytes:
    """A comment segment before the end of the image."""
    return b"\xff\xfe" + struct.pack(">H", len(mark) + 2) + mark + b"\xff\xd9"


def _end_webp(mark: bytes) -> bytes:
    """A chunk of a kind that decoders pass over."""
    return b"SA2V" + struct.pack("<I", len(mark)) + mark + b"\0" * (len(mark) % 2)


def _end_mp4(mark: bytes) -> bytes:
    """A box of free space."""
    return struct.pack(">I", len(mark) + 8) + b"free" + mark


def _end_zip(mark: bytes) -> bytes:
    """The archive's comment, after its length."""
    return struct.pack("<H", len(mark)) + mark


def _enlarge_riff(file: BinaryIO, size: int) -> None:
    """The file's size, without the first eight bytes, stands in its header."""
    file.seek(4)
    file.write(struct.pack("<I", size - 8))


_IEND = b"\0\0\0\0IEND\xaeB`\x82"
_FORMATS = {
    ".json": _Format(_end_json, b"}"),
    ".png": _Format(_end_png, _IEND),
    ".jpg": _Format(_end_jpeg, b"\xff\xd9"),
    ".jpeg": _Format(_end_jpeg, b"\xff\xd9"),
    ".webp": _Format(_end_webp),
    ".mp4": _Format(_end_mp4),
    ".npz": _Format(_end_zip, b"\0\0"),
}
