"""Changes of the picture's size that packets tell before they are decoded: in key frames of VP8, VP9, H.264
and HEVC, the codecs of recorded calls and streams."""

from __future__ import annotations

import re
from typing import Any

import av

_START = re.compile(b"\0\0\1")
_PARAMETER_SETS = {"h264": (0x1F, 0, 7), "hevc": (0x7E, 1, 33)}
"""Codec → (mask and shift of a unit's type in its first byte, type of the sequence parameter set)."""
_HEAD_BYTES = 4096


class SizeWatch:
    """Looks at the packets of one stream, in file order."""

    def __init__(self, stream: Any) -> None:
        self._codec = str(stream.codec_context.codec.canonical_name)
        self._extradata = stream.codec_context.extradata or b""
        self._header: bytes = b""
        self._size_wh = (int(stream.width), int(stream.height))
        self.changes: list[tuple[int, tuple[int, int]]] = []
        """Timestamps of key frames with another size than before, and their sizes as stored."""

    def see(self, packet: Any) -> None:
        """Take note of the next packet."""
        if not packet.is_keyframe or packet.pts is None:
            return
        data = bytes(memoryview(packet)[:_HEAD_BYTES])
        header = self._find_header(data)
        if not header or header == self._header:
            return
        size_wh = self._size_wh if not self._header else self._measure(packet, data)
        self._header = header
        if size_wh not in (None, self._size_wh):
            self._size_wh = size_wh
            self.changes.append((packet.pts, size_wh))

    def _find_header(self, data: bytes) -> bytes:
        """The bytes of a key frame that contain its size; empty when they are not known."""
        if self._codec == "vp8":
            return data[6:10]
        if self._codec == "vp9":
            return data[4:9] if data[0] & 0xF8 == 0x80 else b""  # 8 bits per sample, 4:2:0
        if self._codec not in _PARAMETER_SETS:
            return b""
        mask, shift, wanted = _PARAMETER_SETS[self._codec]
        return next((unit for unit in self._split(data) if unit and (unit[0] & mask) >> shift == wanted), b"")

    def _split(self, data: bytes) -> list[bytes]:
        """H.264 or HEVC units, after start codes or after their lengths."""
        if self._extradata[:1] != b"\1":
            return _START.split(data)[1:]
        length_bytes = 1 + (self._extradata[4 if self._codec == "h264" else 21] & 3)
        units = []
        at = 0
        while at + length_bytes < len(data):
            end = at + length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
            units.append(data[at + length_bytes : end])
            at = end
        return units

    def _measure(self, packet: Any, data: bytes) -> tuple[int, int] | None:
        if self._codec == "vp8":
            return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
        if self._codec == "vp9":
            bits = int.from_bytes(data[4:9], "big")
            return (bits >> 20 & 0xFFFF) + 1, (bits >> 4 & 0xFFFF) + 1
        decoder = av.CodecContext.create(self._codec, "r")
        decoder.extradata = self._extradata
        try:
            frames = [*decoder.decode(packet), *decoder.decode(None)]
        except av.FFmpegError:
            return None  # a damaged frame; what is wrong with it is found when it is read
        return (frames[0].width, frames[0].height) if frames else None
