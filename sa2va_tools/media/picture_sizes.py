"""Changes of the picture's size that packets tell before they are decoded: in key frames of VP8, VP9, H.264
and HEVC, the codecs of recorded calls and streams."""

from __future__ import annotations

from typing import Any

import av

from sa2va_tools.media.nal_units import split_units

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
        return next(
            (
                unit
                for unit in split_units(self._codec, self._extradata, data)
                if unit and (unit[0] & mask) >> shift == wanted
            ),
            b"",
        )

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
