"""What packets tell about damage before they are decoded: which the container calls damaged, and holes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sa2va_tools.media.diagnosis.holes import has_hole
from sa2va_tools.media.diagnosis.joins import begins_recording

_JPEG_END = b"\xff\xd9"
_JPEG_TAIL_BYTES = 4096
"""Padding may follow the end."""


class FaultWatch:
    """Looks at the packets of one stream, in file order."""

    def __init__(self, path: Path, container: Any) -> None:
        self._path = path
        # FFmpeg finds a frame of a transport stream when the next one begins, and flags one frame too early.
        self._flags_early = container.format.name == "mpegts"
        # Sound that is not compressed may be zero bytes for long.
        self._may_have_zeros = any(
            sound.codec_context is None or sound.codec_context.name.startswith("pcm_")
            for sound in container.streams.audio
        )
        self._previous: Any = None
        self._suspect: int | None = None
        self._skipped: list[tuple[int, int]] = []
        self._is_motion_jpeg = container.format.name == "mjpeg"
        self.damaged_pts: list[int] = []
        """Timestamps of damaged packets; complete after `finish`."""
        self.cut_off = False
        """Whether the last packet ends early; known after `finish`."""

    def see(self, packet: Any) -> None:
        """Take note of the next packet."""
        before = self._previous
        if self._suspect is not None and not (self._flags_early and self._begins_recording(packet)):
            self.damaged_pts.append(self._suspect)
        is_damaged = before is not None and before.is_corrupt if self._flags_early else packet.is_corrupt
        self._suspect = packet.pts if is_damaged else None
        if before is not None and _skips(before, packet):
            self._skipped.append((before.pos, packet.pos))
        self._previous = packet

    def finish(self) -> bool:
        """After the last packet: whether frames are missing where bytes of the file were never written."""
        last = self._previous
        if last is not None and self._is_motion_jpeg:
            self.cut_off = _JPEG_END not in bytes(memoryview(last)[-_JPEG_TAIL_BYTES:])
            self._suspect = last.pts if self.cut_off else self._suspect
        if self._suspect is not None:
            self.damaged_pts.append(self._suspect)
        return not self._may_have_zeros and has_hole(self._path, self._skipped)

    def _begins_recording(self, packet: Any) -> bool:
        """Whether a recording begins with this packet of a transport stream, which counts its packets: the
        count starts again, and nothing is lost."""
        before = self._previous
        if before.dts is not None and packet.dts is not None and packet.dts < before.dts:
            return True
        return packet.pos is not None and begins_recording(self._path, packet.pos)


def _skips(before: Any, after: Any) -> bool:
    """Whether time jumps between two packets between which there are other bytes."""
    if None in (before.dts, after.dts, before.pos, after.pos):
        return False
    has_other_bytes = after.pos > before.pos + before.size
    return bool(has_other_bytes and after.dts - before.dts > 1.5 * (before.duration or 0))
