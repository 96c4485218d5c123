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
from sa2va_tools.media.limits import check_duration, check_frames
from sa2va_tools.media.packet_faults import FaultWatch
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
    sizes = SizeWatch(stream)
    faults = FaultWatch(path, container)
    for packet in iter_packets(path, container, stream):
        run.raise_if_cancelled()
        if packet.size == 0:
            break
        sizes.see(packet)
        faults.see(packet)
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
    found.has_hole = faults.finish()
    found.damaged_pts = faults.damaged_pts
    found.size_changes = sizes.changes
    found.cut_off = found.cut_off or faults.cut_off or _ends_early(container, stream, found)
    return found


def _ends_early(container: Any, stream: Any, packets: Packets) -> bool:
    """Whether the header promises more than there is."""
    known = packets.known_pts
    time_base = Fraction(stream.time_base)
    shown_s = float((max(known) - min(known) + packets.last_duration) * time_base) if known else 0.0
    if int(stream.frames) > packets.total:
        # Frames that an edit list cuts off at the end are counted in the header, but not in its duration.
        promised_s = float(stream.duration * time_base) if stream.duration else math.inf
        return promised_s - shown_s > 1.5 * shown_s / max(1, len(known))
    promised_s = _read_tagged_duration_s(container, stream)
    if promised_s and known:
        ends_s = float((max(known) + packets.last_duration) * time_base)
        return promised_s - ends_s > 1.5 * shown_s / len(known)
    # Another stream may rightly be longer, so the file's duration counts only for a single stream.
    if len(container.streams) > 1 or not container.duration or not known:
        return False
    return bool(container.duration / av.time_base - shown_s > max(1.0, 0.1 * shown_s))


def _read_tagged_duration_s(container: Any, stream: Any) -> float:
    """The end of a Matroska or WebM stream by the tag of its writer; 0 without one."""
    tag = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if tag is None or "matroska" not in container.format.name:
        return 0.0
    hours, minutes, seconds = map(float, tag.groups())
    return 3600 * hours + 60 * minutes + seconds
