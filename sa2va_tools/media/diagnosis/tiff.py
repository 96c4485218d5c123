"""How long a TIFF or BigTIFF must be to hold its first page."""

from __future__ import annotations

import struct
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


def measure_tiff(file: BinaryIO, length: int) -> int:
    """The least number of bytes; more than `length` when the file is cut off. Raises OSError."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = head[2:4] in (b"+\0", b"\0+")
    if len(head) < (16 if is_big else 8):
        return 16
    (start,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", head, 8 if is_big else 4)
    count_format, entry_bytes = (f"{order}Q", 20) if is_big else (f"{order}H", 12)
    count_bytes = struct.calcsize(count_format)
    file.seek(start)
    raw = file.read(count_bytes)
    if len(raw) < count_bytes:
        return int(start) + count_bytes
    (count,) = struct.unpack(count_format, raw)
    end = start + count_bytes + count * entry_bytes
    if end > length:
        return int(end)
    entries = file.read(count * entry_bytes)
    arrays: dict[int, tuple[int, ...]] = {}
    for at in range(0, len(entries), entry_bytes):
        tag, values, needed = _read_entry(file, entries[at : at + entry_bytes], order, is_big=is_big)
        arrays[tag] = values
        end = max(end, needed)
    for offsets, counts in _OFFSETS_AND_COUNTS:
        parts = zip(arrays.get(offsets, ()), arrays.get(counts, ()), strict=False)
        end = max([end, *(offset + size for offset, size in parts)])
    return int(end)


def _read_entry(
    file: BinaryIO, entry: bytes, order: str, *, is_big: bool
) -> tuple[int, tuple[int, ...], int]:
    """(tag, its values if they are of use here, where they end in the file)."""
    word = "Q" if is_big else "I"
    tag, kind, count = struct.unpack_from(f"{order}HH{word}", entry)
    inline = entry[12:] if is_big else entry[8:]
    size = count * _TYPE_BYTES.get(kind, 1)
    end = 0
    raw = inline
    if size > len(inline):
        (offset,) = struct.unpack(f"{order}{word}", inline)
        end = offset + size
        if not any(tag in pair for pair in _OFFSETS_AND_COUNTS):
            return tag, (), end
        file.seek(offset)
        raw = file.read(size)
    letter = _INTEGERS.get(kind, "")
    if not letter or len(raw) < size:
        return tag, (), end
    return tag, struct.unpack_from(f"{order}{count}{letter}", raw), end
