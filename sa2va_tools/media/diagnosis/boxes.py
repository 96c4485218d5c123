"""The structure of ISO media files (MP4, MOV, HEIC, AVIF) and of Matroska and WebM: boxes and elements, found
by their sizes, whether or not the file is long enough to hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_FULL_NAMES = bytes(range(0x20, 0x7F)) + b"\xa9"


@dataclass(frozen=True, slots=True)
class Part:
    """A box of an ISO file or an element of a Matroska file."""

    kind: bytes
    """A box's four characters, or an element's ID."""
    body: int
    """Where its content begins."""
    end: int | None
    """Where it ends, perhaps beyond the end of the file; None for an element of unknown size."""


def iter_boxes(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """The boxes from `start` to `end`, up to the first thing that is not a box. Raises OSError."""
    while end - start >= 8:
        file.seek(start)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        kind = head[4:8]
        body = start + 8
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
            body += 8
        elif size == 0:  # to the end of the file
            size = end - start
        if size < body - start or kind.strip(_FULL_NAMES):
            return
        yield Part(kind, body, start + size)
        start += size


def find_boxes(file: BinaryIO, start: int, end: int, *path: bytes) -> Iterator[Part]:
    """All boxes that lie at `path`, such as moov, trak, mdia. Raises OSError."""
    for box in iter_boxes(file, start, end):
        if box.kind == path[0]:
            inside = min(end, box.end or end)
            yield from find_boxes(file, box.body, inside, *path[1:]) if path[1:] else (box,)


def read_element(file: BinaryIO, start: int, end: int) -> Part | None:
    """The Matroska element at `start`; None where there is none, or not the whole of its ID and size. Raises
    OSError."""
    file.seek(start)
    head = file.read(max(0, min(12, end - start)))
    id_length = _vint_length(head[:1])
    size_length = _vint_length(head[id_length : id_length + 1])
    if not 1 <= id_length <= 4 or not size_length or len(head) < id_length + size_length:
        return None
    raw = head[id_length : id_length + size_length]
    bits = 7 * size_length
    size = int.from_bytes(raw, "big") & ((1 << bits) - 1)
    body = start + id_length + size_length
    return Part(head[:id_length], body, None if size == (1 << bits) - 1 else body + size)


def iter_elements(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """The elements from `start` to `end`, up to one of unknown size. Raises OSError."""
    while start < end and (part := read_element(file, start, end)):
        yield part
        if part.end is None:
            return
        start = part.end


def _vint_length(first: bytes) -> int:
    """How many bytes a Matroska number has, by its first byte; 0 where there is no number."""
    return 9 - first[0].bit_length() if first and first[0] else 0
