"""The first page of a TIFF or BigTIFF: its tags, and how long the file must be to hold it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_OFFSETS_AND_COUNTS = ((273, 279), (324, 325))
"""Tags of strips and of tiles: where they are and how many bytes they have."""


@dataclass(frozen=True, slots=True)
class Directory:
    """The first page."""

    tags: dict[int, tuple[int, ...]]
    """The integers of each tag that has some."""
    end: int
    """The least number of bytes of the file; more than there are when it is cut off."""


def is_big_tiff(head: bytes) -> bool:
    """Whether a TIFF with these first bytes has offsets of 64 bits."""
    return head[2:4] in (b"+\0", b"\0+")


def read_directory(file: BinaryIO) -> Directory:
    """Of a TIFF or BigTIFF, as far as the file goes. Raises OSError."""
    length = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = is_big_tiff(head)
    if len(head) < 16:
        return Directory({}, 16)
    (start,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", head, 8 if is_big else 4)
    count_format, entry_bytes = (f"{order}Q", 20) if is_big else (f"{order}H", 12)
    count_bytes = struct.calcsize(count_format)
    file.seek(min(start, length))
    raw = file.read(count_bytes)
    if len(raw) < count_bytes:
        return Directory({}, start + count_bytes)
    end = start + count_bytes + struct.unpack(count_format, raw)[0] * entry_bytes
    if end > length:
        return Directory({}, end)
    entries = file.read(end - start - count_bytes)
    tags: dict[int, tuple[int, ...]] = {}
    for at in range(0, len(entries), entry_bytes):
        tag, values, needed = _read_entry(file, entries[at : at + entry_bytes], order, length)
        tags[tag] = values
        end = max(end, needed)
    for offsets, counts in _OFFSETS_AND_COUNTS:
        parts = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
        end = max([end, *(offset + size for offset, size in parts)])
    return Directory(tags, end)


def _read_entry(file: BinaryIO, entry: bytes, order: str, length: int) -> tuple[int, tuple[int, ...], int]:
    """(tag, its integers, where they end in the file)."""
    word = "Q" if len(entry) == 20 else "I"
    tag, kind, count = struct.unpack_from(f"{order}HH{word}", entry)
    raw = entry[-struct.calcsize(word) :]
    size = count * _TYPE_BYTES.get(kind, 1)
    end = 0
    if size > len(raw):
        (offset,) = struct.unpack(f"{order}{word}", raw)
        end = offset + size
        if end > length:
            return tag, (), end
        file.seek(offset)
        raw = file.read(size)
    letter = _INTEGERS.get(kind, "")
    return tag, struct.unpack_from(f"{order}{count}{letter}", raw) if letter else (), end
