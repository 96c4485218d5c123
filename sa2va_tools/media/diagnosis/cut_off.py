"""Whether a file ends before its own structure says so: sizes of boxes, elements, chunks and packets.

Streams without sizes (a bare H.264 stream) can be cut anywhere without a trace.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sa2va_tools.media.diagnosis.boxes import iter_boxes, read_element
from sa2va_tools.media.diagnosis.tiff import read_directory
from sa2va_tools.media.failures import translate_decoder_errors

_HEAD_BYTES = 200
_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_EBML, _SEGMENT, _CLUSTER = b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x1fC\xb6u"
_ASF, _ASF_FILE = bytes.fromhex("3026B2758E66CF11"), bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")
_KLV = b"\x06\x0e\x2b\x34"
_PACK, _PROGRAM_END = b"\0\0\x01\xba", b"\0\0\x01\xb9"
_PACK_BYTES = 1 << 18
"""Packs are shorter."""
_TS_PACKETS = (188, 192, 204)
_OGG_LAST = 4
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)


def find_cut(path: Path) -> str:
    """How the file at `path` is seen to be cut off, as a clause; empty when it does not seem so. Raises
    MediaError."""
    with translate_decoder_errors(path), path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(0)
        head = file.read(_HEAD_BYTES)
        check = _choose_check(head)
        return check(file, length) if check else ""


def _choose_check(head: bytes) -> Callable[[BinaryIO, int], str] | None:
    """By the file's first bytes, however few there are."""
    if head[4:8] in _BOXES:
        return _check_iso
    if (head[:1] == b"G" and head[:3] != b"GIF") or head[4:5] == head[196:197] == b"G":
        return _check_transport_stream
    checks = (
        (_EBML, _check_matroska),
        (b"RIFF", _check_riff),
        (b"\x89PNG\r\n\x1a\n", _check_png),
        (b"GIF8", _check_gif),
        (b"\xff\xd8\xff", _check_jpeg),
        (b"BM", _check_bmp),
        *((magic, _check_tiff) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        (b"FLV", _check_flv),
        (b"OggS", _check_ogg),
        (_ASF, _check_asf),
        (_PACK, _check_program_stream),
        (_KLV, _check_mxf),
        (b"DKIF", _check_ivf),
    )
    return next((check for magic, check in checks if head.startswith(magic)), None)


def _compare(length: int, claimed: int) -> str:
    return f"it has {length:,} of at least {claimed:,} bytes" if claimed > length else ""


def _check_iso(file: BinaryIO, length: int) -> str:
    kinds = []
    end = 0
    for box in iter_boxes(file, 0, length):
        kinds.append(box.kind)
        end = box.end or length
        if end > length:
            return _compare(length, end)
    file.seek(end)
    if 0 < length - end < 8 and file.read().strip(b"\0"):
        return "it ends within a box"
    if b"moov" not in kinds and b"meta" not in kinds and b"moof" not in kinds:
        return "its index (the moov box), which recorders write last, is missing"
    if kinds[-1] == b"moof" or (not {b"mdat", b"moof", b"idat"} & {*kinds} and b"meta" not in kinds):
        return "its pictures (the mdat box) are missing"
    return ""


def _check_matroska(file: BinaryIO, length: int) -> str:
    header = read_element(file, 0, length)
    segment = read_element(file, header.end, length) if header and header.end else None
    if segment is None:
        return "it ends within its header"
    if segment.kind != _SEGMENT:
        return ""
    if segment.end is not None:
        return _compare(length, segment.end)
    return _check_live_matroska(file, segment.body, length)


def _check_live_matroska(file: BinaryIO, start: int, length: int) -> str:
    """Of a segment without a size, as live recordings have it."""
    has_cluster = False
    while start < length:
        part = read_element(file, start, length)
        if part is None:
            return "" if _reads_zero(file, start) else "it ends within an element"
        if part.end is not None and part.end > length:
            return _compare(length, part.end)
        has_cluster |= part.kind == _CLUSTER
        start = part.body if part.end is None else part.end
    return "" if has_cluster else "it ends before its first frame"


def _reads_zero(file: BinaryIO, start: int) -> bool:
    """Whether there is something other than an element at `start`."""
    file.seek(start)
    return file.read(1) == b"\0"


def _check_riff(file: BinaryIO, length: int) -> str:
    at = 0
    claimed = 8
    while length - at >= 8:
        file.seek(at)
        head = file.read(8)
        size = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or size in _UNKNOWN_SIZES:
            break
        claimed = at + 8 + size
        at = claimed + size % 2  # a long AVI goes on with another
    return _compare(length, claimed)


def _check_png(file: BinaryIO, length: int) -> str:
    at = 8
    while length - at >= 12:
        file.seek(at)
        head = file.read(8)
        if head[4:] == b"IEND":
            return ""
        at += 12 + int.from_bytes(head[:4], "big")
        if at > length:
            return _compare(length, at)
    return "its end is missing"


def _check_gif(file: BinaryIO, length: int) -> str:
    file.seek(0)
    screen = file.read(13)
    if len(screen) < 13:
        return "it ends within its header"
    file.seek(13 + _colour_bytes(screen[10]))
    while (kind := file.read(1)) in (b"!", b","):
        if kind == b",":
            image = file.read(9)
            file.seek(_colour_bytes(image[8]) + 1 if len(image) == 9 else 0, 1)
        else:
            file.seek(1, 1)
        while size := file.read(1):
            if size == b"\0":
                break
            file.seek(size[0], 1)
    return "" if kind else "its end is missing"


def _colour_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _check_jpeg(file: BinaryIO, length: int) -> str:
    file.seek(2)
    while (mark := file.read(2))[:1] == b"\xff" and mark != b"\xff\xda":
        if mark == b"\xff\xd9":
            return ""
        size = file.read(2)
        end = file.tell() + max(0, int.from_bytes(size, "big") - 2)
        if len(size) < 2 or end > length:
            return "it ends within its header"
        file.seek(end)
    if len(mark) < 2:
        return "it ends within its header"
    return "" if b"\xff\xd9" in file.read() else "its end is missing"


def _check_bmp(file: BinaryIO, length: int) -> str:
    file.seek(2)
    return (
        _compare(length, int.from_bytes(file.read(4), "little"))
        if length >= 6
        else "it ends within its header"
    )


def _check_tiff(file: BinaryIO, length: int) -> str:
    return _compare(length, read_directory(file).end)


def _check_flv(file: BinaryIO, length: int) -> str:
    """The last four bytes are the size of the last tag."""
    if length < 13:
        return "it ends within its header"
    file.seek(length - 4)
    size = int.from_bytes(file.read(4), "big")
    at = length - 4 - size
    if size == 0 and length == 13:
        return "it ends before its first frame"
    file.seek(max(0, at))
    tag = file.read(4)
    is_whole = at >= 13 and tag[:1] in b"\x08\x09\x12" and int.from_bytes(tag[1:4], "big") + 11 == size
    return "" if is_whole else "it ends within a packet"


def _check_ogg(file: BinaryIO, length: int) -> str:
    at = 0
    flags = _OGG_LAST
    while at < length:
        file.seek(at)
        head = file.read(27)
        if not head.startswith(b"OggS"[: len(head)]):
            return ""
        if len(head) < 27:
            return "it ends within a page"
        flags = head[5]
        at += 27 + head[26] + sum(file.read(head[26]))
    return _compare(length, at) or ("" if flags & _OGG_LAST else "its last page is missing")


def _check_asf(file: BinaryIO, length: int) -> str:
    file.seek(0)
    head = file.read(30)
    size = int.from_bytes(head[16:24], "little")
    if len(head) < 30 or size > length:
        return "it ends within its header"
    header = head + file.read(size - 30)
    at = header.find(_ASF_FILE)
    is_live = at < 0 or int.from_bytes(header[at + 88 : at + 92], "little") & 1
    return "" if is_live else _compare(length, int.from_bytes(header[at + 40 : at + 48], "little"))


def _check_program_stream(file: BinaryIO, length: int) -> str:
    """From its last pack on."""
    begin = max(0, length - _PACK_BYTES)
    file.seek(begin)
    at = begin + max(0, file.read().rfind(_PACK))
    while at < length:
        file.seek(at)
        head = file.read(14)
        if head[:4] == _PACK:
            at += 14 + (head[13] & 7 if len(head) == 14 else 0) if head[4:5] >= b"\x40" else 12
        elif head[:4] == _PROGRAM_END or (head[:3] != b"\0\0\x01" and len(head) >= 3):
            return ""
        else:
            at += 6 + int.from_bytes(head[4:6], "big")
    return "it ends within a packet" if at > length else ""


def _check_mxf(file: BinaryIO, length: int) -> str:
    at = 0
    while at < length:
        file.seek(at)
        head = file.read(25)
        if not head.startswith(_KLV):
            return ""
        size = head[16] if len(head) > 16 else 0
        body = at + 17
        if size & 0x80:
            body += size & 0x7F
            size = int.from_bytes(head[17 : 17 + (size & 0x7F)], "big")
        at = body + size
    return _compare(length, at)


def _check_ivf(file: BinaryIO, length: int) -> str:
    at = 32
    while at < length:
        file.seek(at)
        at += 12 + int.from_bytes(file.read(4), "little")
    return _compare(length, at)


def _check_transport_stream(file: BinaryIO, length: int) -> str:
    file.seek(0)
    head = file.read(2 * max(_TS_PACKETS))
    for size in _TS_PACKETS:
        start = 4 if size == 192 else 0
        if length <= size or head[start : start + size + 1 : size] == b"\x47\x47":
            return "it ends within a packet" if length % size else ""
    return ""
