"""The units (NAL) of H.264 and HEVC packets, and what they say about where decoding may begin."""

from __future__ import annotations

import re
from collections.abc import Sequence

_START = re.compile(b"\0\0\1")
_H264_SEI = 6
_RECOVERY_POINT = 6


def split_units(codec: str, extradata: bytes, data: bytes) -> list[bytes]:
    """The units in a packet of `h264` or `hevc`, after start codes or after their lengths."""
    if extradata[:1] != b"\1":
        return _START.split(data)[1:]
    length_bytes = 1 + (extradata[4 if codec == "h264" else 21] & 3)
    units = []
    at = 0
    while at + length_bytes < len(data):
        end = at + length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
        units.append(data[at + length_bytes : end])
        at = end
    return units


def recovers_gradually(units: Sequence[bytes]) -> bool:
    """Whether an H.264 key frame only begins to refresh the picture part by part: frames are right
    some time later, when everything before was decoded too."""
    return any(
        not payload[0] & 0x80  # a number of frames; a first bit of 1 is none
        for unit in units
        if unit and unit[0] & 0x1F == _H264_SEI
        for kind, payload in _split_messages(unit[1:])
        if kind == _RECOVERY_POINT and payload
    )


def _split_messages(data: bytes) -> list[tuple[int, bytes]]:
    """(type, content) of supplemental messages. Their numbers are bytes that end with one below 255."""
    messages = []
    at = 0
    while at + 2 < len(data):
        numbers = []
        for _ in range(2):
            end = at
            while end < len(data) - 1 and data[end] == 0xFF:
                end += 1
            numbers.append(sum(data[at : end + 1]))
            at = end + 1
        messages.append((numbers[0], data[at : at + numbers[1]]))
        at += numbers[1]
    return messages
