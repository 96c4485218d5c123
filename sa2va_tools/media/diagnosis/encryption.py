"""Whether the pictures of a file are encrypted (DRM, pay TV), by its own structure."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import BinaryIO

from sa2va_tools.media.diagnosis.boxes import Part, find_boxes, iter_elements
from sa2va_tools.media.failures import translate_decoder_errors

_SCHEMES = {
    b"cenc": "Common Encryption",
    b"cbcs": "Common Encryption",
    b"itun": "FairPlay",
    b"adkm": "Adobe DRM",
}
_SAMPLE_ENTRIES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_VISUAL_ENTRY_BYTES = 78
"""The fields of a visual sample entry, before the boxes in it."""
_SEGMENT, _TRACKS, _TRACK = bytes.fromhex("18538067"), bytes.fromhex("1654AE6B"), b"\xae"
_TRACK_TYPE, _VIDEO = b"\x83", 1
_ENCRYPTION = (bytes.fromhex("6D80"), bytes.fromhex("6240"), bytes.fromhex("5035"))
"""ContentEncodings, ContentEncoding, ContentEncryption."""
_ASF_HEADER = bytes.fromhex("3026B2758E66CF11")
_ASF_ENCRYPTION = (
    bytes.fromhex("FBB3112223BDD211B4B700A0C955FC6E"),
    bytes.fromhex("14E68A292226174CB935DAE07EE9289C"),
)
"""The content encryption object and the extended one."""
_TS_PACKET, _TS_PID = 188, 0x1FFF
_TS_SAMPLE = 2000
_ZIP = b"PK\x03\x04"
_TOOLS = (
    (b"Salted__", "with OpenSSL"),
    (b"age-encryption.org/", "with age"),
    (b"-----BEGIN PGP MESSAGE", "with PGP"),
    (b"\x85\x01\x0c\x03", "with PGP"),
    (b"\x85\x02\x0c\x03", "with PGP"),
)


def find_encryption(path: Path) -> str:
    """How the pictures of the file at `path` are encrypted, as words that follow "is encrypted"; empty when
    they are not. Raises MediaError."""
    with translate_decoder_errors(path), path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(0)
        head = file.read(2 * _TS_PACKET)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _iso_encryption(file, length)
        if head.startswith(b"\x1aE\xdf\xa3") and _is_matroska_encrypted(file, length):
            return "(Matroska content encryption)"
        if head.startswith(_ASF_HEADER):
            header = head + file.read(max(0, min(int.from_bytes(head[16:24], "little"), 1 << 20) - len(head)))
            return "(Windows Media DRM)" if any(guid in header for guid in _ASF_ENCRYPTION) else ""
        if head[:1] == head[_TS_PACKET : _TS_PACKET + 1] == b"\x47" and _is_scrambled(file):
            return "(a scrambled broadcast)"
        if head.startswith(_ZIP) and head[6] & 1:
            return "(a ZIP archive with a password)"
        return next((words for magic, words in _TOOLS if head.startswith(magic)), "")


def _iso_encryption(file: BinaryIO, length: int) -> str:
    """Of the video tracks; their sample entries are then called `encv` or, by FairPlay, `drmi`."""
    for table in find_boxes(file, 0, length, *_SAMPLE_ENTRIES):
        end = min(length, table.end or length)
        for entry in find_boxes(file, table.body + 8, end, b"drmi"):
            return "(FairPlay)" if entry else ""
        for entry in find_boxes(file, table.body + 8, end, b"encv"):
            return _name_scheme(file, entry, end)
    return ""


def _name_scheme(file: BinaryIO, entry: Part, end: int) -> str:
    """Empty when its frames are in the clear all the same."""
    inside = entry.body + _VISUAL_ENTRY_BYTES
    for box in find_boxes(file, inside, end, b"sinf", b"schi", b"tenc"):
        file.seek(box.body + 6)
        if file.read(1) == b"\0":  # default_isProtected
            return ""
    for box in find_boxes(file, inside, end, b"sinf", b"schm"):
        file.seek(box.body + 4)
        scheme = file.read(4)
        return f"({_SCHEMES.get(scheme, scheme.decode('latin-1'))})"
    return "(DRM)"


def _is_matroska_encrypted(file: BinaryIO, length: int) -> bool:
    """Whether a video track is."""
    for segment in iter_elements(file, 0, length):
        if segment.kind != _SEGMENT:
            continue
        for tracks in iter_elements(file, segment.body, length):
            if tracks.kind != _TRACKS or tracks.end is None:
                continue
            return any(
                _track_type(file, track) == _VIDEO and _contains(file, track, _ENCRYPTION)
                for track in iter_elements(file, tracks.body, min(length, tracks.end))
                if track.kind == _TRACK
            )
    return False


def _track_type(file: BinaryIO, track: Part) -> int:
    for part in iter_elements(file, track.body, track.end or track.body):
        if part.kind == _TRACK_TYPE:
            file.seek(part.body)
            return file.read(1)[0]
    return 0


def _contains(file: BinaryIO, outer: Part, path: tuple[bytes, ...]) -> bool:
    if not path:
        return True
    inside = iter_elements(file, outer.body, outer.end or outer.body)
    return any(_contains(file, part, path[1:]) for part in [*inside] if part.kind == path[0])


def _is_scrambled(file: BinaryIO) -> bool:
    """Whether most packets of a transport stream's largest part are marked as scrambled."""
    file.seek(0)
    data = file.read(_TS_PACKET * _TS_SAMPLE)
    every = [data[at : at + 4] for at in range(0, len(data) - 3, _TS_PACKET)]
    packets = [packet for packet in every if packet[:1] == b"\x47"]
    if len(packets) < 0.9 * len(every):  # bytes are missing, and the others are not packets
        return False
    by_pid = Counter(int.from_bytes(packet[1:3], "big") & _TS_PID for packet in packets)
    largest = by_pid.most_common(1)[0][0]
    marked = [
        packet[3] & 0x80 for packet in packets if int.from_bytes(packet[1:3], "big") & _TS_PID == largest
    ]
    return sum(map(bool, marked)) > len(marked) / 2
