"""The packets of a video before decoding: their timestamps, and whether the file is cut off."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from sa2va_tools.media.container import iter_packets
from sa2va_tools.media.diagnosis.holes import has_hole
from sa2va_tools.media.diagnosis.joins import begins_recording
from sa2va_tools.media.limits import check_duration, check_frames
from sa2va_tools.media.picture_sizes import SizeWatch
from sa2va_tools.media.timestamps import MAX_GAP_S
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits

_CLOCK = re.compile(r"(\d+):(\d+):([\d.]+)")


@dataclass(slots=True)
class Packets:
    """What the container says."""

    pts: list[int | None] = field(default_factory=list)
    """Timestamps of the packets that are shown, in file order."""
    total: int = 0
    """Number of packets, including those that an edit list hides."""
    last_duration: int = 0
    """Of the last packet that has one, in ticks."""
    may_jump: bool = False
    """Whether the format is one whose recordings can be joined byte by byte."""
    damaged_pts: list[int] = field(default_factory=list)
    """Timestamps of packets that the container calls damaged."""
    size_changes: list[tuple[int, tuple[int, int]]] = field(default_factory=list)
    """Timestamps at which the size changes, and the new size as stored, as far as packets tell."""
    cut_off: bool = False
    """Whether the data end before they should."""
    has_hole: bool = False
    """Whether frames are missing where bytes of the file were never written."""

    @property
    def known_pts(self) -> list[int]:
        return [stamp for stamp in self.pts if stamp is not None]


def read_packets(path: Path, container: Any, stream: Any, limits: MediaLimits, run: Run) -> Packets:
    """Reads the whole file. Raises MediaTooLargeError as soon as a limit is passed, CancelledError."""
    found = Packets()
    time_base = Fraction(stream.time_base)
    found.may_jump = container.format.name in ("mpegts", "mpeg")
    earliest: int | None = None
    latest: int | None = None
    jumped_s = 0.0
    # FFmpeg finds the frames of a transport stream only when the next one begins, and flags one too early.
    flags_early = container.format.name == "mpegts"
    previous: Any = None
    skipped: list[tuple[int, int]] = []
    suspect: int | None = None
    watch = SizeWatch(stream)
    for packet in iter_packets(path, container, stream):
        run.raise_if_cancelled()
        if packet.size == 0:
            break
        if suspect is not None and not (flags_early and _begins_recording(path, previous, packet)):
            found.damaged_pts.append(suspect)
        is_damaged = previous is not None and previous.is_corrupt if flags_early else packet.is_corrupt
        suspect = packet.pts if is_damaged else None
        if previous is not None and _skips(previous, packet):
            skipped.append((previous.pos, packet.pos))
        previous = packet
        watch.see(packet)
        found.total += 1
        found.cut_off = bool(packet.is_corrupt)
        if packet.is_discard:
            continue
        found.pts.append(packet.pts)
        found.last_duration = int(packet.duration or 0) or found.last_duration
        check_frames(path.name, len(found.pts), limits)
        if packet.pts is not None:
            if found.may_jump and latest is not None and packet.pts - latest > MAX_GAP_S / time_base:
                jumped_s += float((packet.pts - latest) * time_base)
            latest = packet.pts
            earliest = packet.pts if earliest is None else min(earliest, packet.pts)
            check_duration(path.name, float((packet.pts - earliest) * time_base) - jumped_s, limits)
    found.size_changes = watch.changes
    if suspect is not None:
        found.damaged_pts.append(suspect)
    # Sound that is not compressed may be zero bytes for long.
    if not any(sound.codec_context.name.startswith("pcm_") for sound in container.streams.audio):
        found.has_hole = has_hole(path, skipped)
    found.cut_off = found.cut_off or _ends_early(container, stream, found)
    return found


def _begins_recording(path: Path, before: Any, after: Any) -> bool:
    """Whether a recording begins between two packets of a transport stream, which counts its packets: the
    count starts again, and nothing is lost."""
    goes_back = before.dts is not None and after.dts is not None and after.dts < before.dts
    return goes_back or (after.pos is not None and begins_recording(path, after.pos))


def _skips(before: Any, after: Any) -> bool:
    """Whether time jumps between two packets between which there are other bytes."""
    if None in (before.dts, after.dts, before.pos, after.pos):
        return False
    has_other_bytes = after.pos > before.pos + before.size
    return bool(has_other_bytes and after.dts - before.dts > 1.5 * (before.duration or 0))


def _ends_early(container: Any, stream: Any, packets: Packets) -> bool:
    """Whether the header promises more than there is."""
    known = packets.known_pts
    time_base = Fraction(stream.time_base)
    shown_s = float((max(known) - min(known) + packets.last_duration) * time_base) if known else 0.0
    if int(stream.frames) > packets.total:
        # Frames that an edit list cuts off at the end are counted in the header, but not in its duration.
        promised_s = float(stream.duration * time_base) if stream.duration else math.inf
        return promised_s - shown_s > 1.5 * shown_s / max(1, len(known))
    promised_s = _tagged_duration_s(container, stream)
    if promised_s and known:
        ends_s = float((max(known) + packets.last_duration) * time_base)
        return promised_s - ends_s > 1.5 * shown_s / len(known)
    # Another stream may rightly be longer, so the file's duration counts only for a single stream.
    if len(container.streams) > 1 or not container.duration or not known:
        return False
    return bool(container.duration / av.time_base - shown_s > max(1.0, 0.1 * shown_s))


def _tagged_duration_s(container: Any, stream: Any) -> float:
    """The end of a Matroska or WebM stream by the tag of its writer; 0 without one."""
    tag = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if tag is None or "matroska" not in container.format.name:
        return 0.0
    hours, minutes, seconds = map(float, tag.groups())
    return 3600 * hours + 60 * minutes + seconds
