"""A video file → its exact frames: how many, when each is shown, which of them decode.

All packets are read (fast: nothing is decoded), which bounds frames and seconds. Then frames are
decoded once while the budget lasts, so that damage is found when the file is opened. Of a longer
video the packets' stamps are taken at their word when they agree with all frames that were decoded
(they need not: fields, hidden frames), else it is decoded to the end; damage beyond the budget is an
error of the frame that it hits. A picture of another size counts as damage that the video ends before.
"""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.container import frame_orientation, opened_video
from sa2va_tools.media.failures import decoder_errors
from sa2va_tools.media.limits import check_duration, check_frames, check_pixels
from sa2va_tools.media.orientation import UPRIGHT, Orientation
from sa2va_tools.media.probe import Probe, break_warning
from sa2va_tools.settings import MediaLimits
from sa2va_tools.shortage import may_lack_memory

_FALLBACK_FPS = Fraction(25)
_CLOCK = re.compile(r"(\d+):(\d+):([\d.]+)")
_MOSTLY = 1.25
"""Frames for each one in its turn, up to which stamps are believed."""
_MAX_DAMAGED_SHARE = 0.2
"""Beyond this share of damaged frames a file is called corrupt; a glitch stays below it."""


@dataclass(slots=True)
class _Packets:
    """What the container says, before anything is decoded."""

    pts: list[int | None] = field(default_factory=list)
    """Of the packets that are to be shown, in file order."""
    total: int = 0
    """Packets, with those that an edit list hides."""
    last_duration: int = 0
    broken: bool = False
    """Whether reading broke off within the data."""

    @property
    def known_pts(self) -> list[int]:
        return [stamp for stamp in self.pts if stamp is not None]


@dataclass(slots=True)
class _Decoded:
    """What the decoder gave."""

    pts: list[int | None] = field(default_factory=list)
    corrupt: int = 0
    """Frames that the decoder had to patch up."""
    faults: int = 0
    """Packets that it refused."""
    sound: int = sys.maxsize
    """Frames before the first one that is lost or damaged."""
    whole: bool = False
    """Whether it was let run to the end, or to a change of size."""
    size_wh: tuple[int, int] = (0, 0)
    resized_wh: tuple[int, int] | None = None
    """Of the frame after these, where the picture changes its size."""
    orientation: Orientation = UPRIGHT


def probe_video(path: Path, limits: MediaLimits, on_frame: Callable[[], None], budget_px: int) -> Probe:
    """`on_frame` is called at every packet and frame, and may raise to stop."""
    with opened_video(path) as (container, stream):
        size_wh = (int(stream.width), int(stream.height))
        check_pixels(path.name, size_wh, limits)
        rate, time_base = _rate_of(stream), Fraction(stream.time_base)
        sar = stream.sample_aspect_ratio
        kind = str(container.format.name).split(",")[0]
        packets = _read_packets(path, container, stream, limits, on_frame)
        packets.broken |= _ends_early(container, stream, packets)
    if not packets.pts:
        raise MediaUnreadableError(
            f"{path.name} holds no frames.", hint="It may have been cut off; export or download it again."
        )
    decoded = _decode(path, limits, on_frame, max(1, budget_px // max(1, size_wh[0] * size_wh[1])))
    stamped = sorted(packets.known_pts)
    if not decoded.whole and (decoded.pts != stamped[: len(decoded.pts)] or len(stamped) < len(packets.pts)):
        decoded = _decode(path, limits, on_frame, None)
    decoded, warnings = _usable(path, packets, decoded, lambda: _decode(path, limits, on_frame, None))
    if sar not in (None, 0, 1):
        warnings.append(f"{path.name} has pixels that are not square ({sar}); they are read as square.")
    clock = _clock(decoded.pts if decoded.whole else stamped, rate, time_base, packets.last_duration)
    check_duration(path.name, clock.timestamps_s[-1] + clock.last_frame_s, limits)
    if clock.is_guess:
        warnings.append(f"{path.name} has no usable timestamps; {clock.fps} frames per second are assumed.")
    return Probe(
        _container_name(kind, path),
        decoded.orientation.apply_size(decoded.size_wh),
        frame_count=len(clock.timestamps_s),
        fps=clock.fps,
        timestamps_s=clock.timestamps_s,
        last_frame_s=clock.last_frame_s,
        orientation=decoded.orientation,
        pts=() if decoded.resized_wh and _recur(clock.pts, stamped) else clock.pts,
        warnings=tuple(warnings),
        complete=not (packets.broken or decoded.faults or decoded.corrupt or decoded.resized_wh),
    )


def decoded_frames(
    path: Path,
    container: Any,
    stream: Any,
    on_fault: Callable[[], None] | None = None,
    on_resize: Callable[[tuple[int, int]], None] | None = None,
) -> Iterator[Any]:
    """Frames in order of presentation from where the container stands; packets that do not decode
    are passed over, after calling `on_fault`. Ends when the picture changes its size, after calling
    `on_resize`; without that it raises MediaUnreadableError."""
    size_wh: tuple[int, int] | None = None
    for packet in _packets(path, container, stream):
        # A packet that is cut short would make the decoder drop whole frames that it still holds.
        if packet.is_corrupt:
            if on_fault:
                on_fault()
            continue
        with decoder_errors(path, "decoded", (stream.width, stream.height)):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if may_lack_memory(error):  # then it says nothing about the packet
                    raise
                if on_fault:
                    on_fault()
                continue
        for frame in frames:
            size_wh = size_wh or (frame.width, frame.height)
            if (frame.width, frame.height) != size_wh:
                if on_resize:
                    on_resize((frame.width, frame.height))
                    return
                raise MediaUnreadableError(
                    f"{path.name} changes its size midway, from {size_wh[0]}×{size_wh[1]} to "
                    f"{frame.width}×{frame.height}.",
                    hint="Re-encode it at one size, or cut it where the size changes.",
                )
            yield frame


def _packets(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Packets, the last of them empty (it flushes the decoder), also when reading breaks off."""
    source = container.demux(stream)
    while True:
        with decoder_errors(path):
            try:
                packet = next(source, None)
            except av.FFmpegError as error:
                if may_lack_memory(error):
                    raise
                packet = av.Packet()
                packet.stream = stream
        if packet is None:
            return
        yield packet
        if packet.size == 0:
            return


def _read_packets(
    path: Path, container: Any, stream: Any, limits: MediaLimits, on_frame: Callable[[], None]
) -> _Packets:
    found = _Packets()
    time_base = Fraction(stream.time_base)
    earliest: int | None = None
    for packet in _packets(path, container, stream):
        on_frame()
        if packet.size == 0:
            break
        found.total += 1
        found.broken = bool(packet.is_corrupt)
        if packet.is_corrupt:
            continue
        if packet.is_discard:
            continue
        found.pts.append(packet.pts)
        found.last_duration = int(packet.duration or 0) or found.last_duration
        check_frames(path.name, len(found.pts), limits)
        if packet.pts is not None:
            earliest = packet.pts if earliest is None else min(earliest, packet.pts)
            check_duration(path.name, float((packet.pts - earliest) * time_base), limits)
    return found


def _ends_early(container: Any, stream: Any, packets: _Packets) -> bool:
    """Whether the header promises more than is there."""
    known, time_base = packets.known_pts, Fraction(stream.time_base)
    shown_s = float((max(known) - min(known) + packets.last_duration) * time_base) if known else 0.0
    if int(stream.frames) > packets.total:
        # Frames that an edit list cuts off at the end are counted, but neither read nor promised to be shown.
        promised_s = float(stream.duration * time_base) if stream.duration else math.inf
        frame_s = shown_s / max(1, len(known))
        return promised_s - shown_s > 1.5 * frame_s
    promised_s = _tagged_duration_s(container, stream)
    if promised_s and known:
        ends_s = float((max(known) + packets.last_duration) * time_base)
        return promised_s - ends_s > 1.5 * shown_s / len(known)
    # Another stream may rightly be longer, so only a lone stream is held to the file's duration.
    if len(container.streams) > 1 or not container.duration or not known:
        return False
    return bool(container.duration / av.time_base - shown_s > max(1.0, 0.1 * shown_s))


def _tagged_duration_s(container: Any, stream: Any) -> float:
    """When a Matroska or WebM stream ends, as its writer noted it; 0 where it did not."""
    noted = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if noted is None or "matroska" not in container.format.name:
        return 0.0
    hours, minutes, seconds = map(float, noted.groups())
    return 3600 * hours + 60 * minutes + seconds


def _decode(path: Path, limits: MediaLimits, on_frame: Callable[[], None], count: int | None) -> _Decoded:
    """Decode at most `count` frames (None: all of them)."""
    found = _Decoded()

    def on_fault() -> None:
        found.faults += 1
        found.sound = min(found.sound, len(found.pts))

    def on_resize(size_wh: tuple[int, int]) -> None:
        found.resized_wh = size_wh

    with opened_video(path) as (container, stream):
        for frame in decoded_frames(path, container, stream, on_fault, on_resize):
            on_frame()
            if len(found.pts) == count:
                return found
            if not found.pts:
                found.size_wh = (frame.width, frame.height)
                check_pixels(path.name, found.size_wh, limits)
                found.orientation = frame_orientation(frame)
            if frame.is_corrupt:
                found.sound = min(found.sound, len(found.pts))
            found.pts.append(frame.pts)
            check_frames(path.name, len(found.pts), limits)
            found.corrupt += bool(frame.is_corrupt)
    found.whole = True
    return found


def _usable(
    path: Path, packets: _Packets, decoded: _Decoded, decode_all: Callable[[], _Decoded]
) -> tuple[_Decoded, list[str]]:
    """What can be used, and warnings about what is lost: frames that do not decode are passed over while they
    are few, else the video is used up to the first of them. Raises MediaUnreadableError when that leaves
    nothing."""
    count = len(decoded.pts)
    if count and (decoded.faults + decoded.corrupt) <= _MAX_DAMAGED_SHARE * (count + decoded.faults):
        return decoded, _damage(path, packets, decoded)
    if not decoded.whole:
        decoded = decode_all()
    sound = min(decoded.sound, len(decoded.pts))
    if not sound:
        raise MediaUnreadableError(
            f"{path.name} is {'cut off' if packets.broken else 'corrupt'}: "
            f"{'none of its frames can be decoded' if not count else 'its very first frames do not decode'}.",
            hint="Export or download it again.",
        )
    if decoded.resized_wh and sound == len(decoded.pts):
        return decoded, _damage(path, packets, decoded)
    decoded.pts = decoded.pts[:sound]
    return decoded, [break_warning(path.name, sound)]


def _damage(path: Path, packets: _Packets, decoded: _Decoded) -> list[str]:
    """Warnings about a few lost frames, and about where the picture changes its size."""
    said: list[str] = []
    if decoded.resized_wh:
        was, becomes = (
            "×".join(map(str, decoded.orientation.apply_size(size_wh)))
            for size_wh in (decoded.size_wh, decoded.resized_wh)
        )
        how = f"changes its size from {was} to {becomes}"
        said.append(break_warning(path.name, len(decoded.pts), how))
    elif packets.broken:
        shown = len(decoded.pts) if decoded.whole else len(packets.pts)
        return [f"{path.name} breaks off early; the {shown} frames that are there are used."]
    if decoded.faults or decoded.corrupt:
        lost = f"{decoded.faults} do not decode and {decoded.corrupt} decode with errors"
        said.append(f"{path.name} is damaged: of {len(packets.pts)} frames {lost}.")
    return said


def _recur(pts: Sequence[int], stamps: Sequence[int]) -> bool:
    """Whether packets behind these frames are stamped like them: a jump might then land there."""
    return bool(pts) and sum(stamp <= pts[-1] for stamp in stamps) > len(pts)


@dataclass(frozen=True, slots=True)
class _Clock:
    fps: Fraction
    timestamps_s: tuple[float, ...]
    last_frame_s: float
    pts: tuple[int, ...]
    is_guess: bool


def _clock(stamps: Sequence[int | None], rate: Fraction | None, time_base: Fraction, last: int) -> _Clock:
    """Seconds from the first frame on. Where stamps are missing, or many do not rise from frame to frame,
    evenly spaced at `rate`."""
    pts = [stamp for stamp in stamps if stamp is not None]
    in_order = _longest_rise(pts)
    if len(pts) == len(stamps) and len(in_order) < len(pts) <= _MOSTLY * len(in_order):
        # Damage: a frame came out of its turn. It goes between its neighbours; the others keep their times.
        fps = _average_fps([pts[at] for at in in_order], None, time_base)
        known = [float((pts[at] - pts[in_order[0]]) * time_base) for at in in_order]
        seconds = _between(in_order, known, len(pts), float(1 / fps))
        return _Clock(fps, seconds, float(last * time_base) if last else float(1 / fps), (), False)
    if len(pts) != len(stamps) or len(in_order) < len(pts):
        fps = rate or _FALLBACK_FPS
        seconds = tuple(float(index / fps) for index in range(len(stamps)))
        return _Clock(fps, seconds, float(1 / fps), (), True)
    seconds = tuple(float((stamp - pts[0]) * time_base) for stamp in pts)
    fps = _average_fps(pts, rate, time_base)
    last_frame_s = float(last * time_base) if last else float(1 / fps)
    return _Clock(fps, seconds, last_frame_s, tuple(pts), False)


def _longest_rise(stamps: Sequence[int]) -> list[int]:
    """Positions of the longest strictly rising run of stamps, others left out (patience sorting)."""
    ends: list[int] = []
    at_end: list[int] = []
    before: list[int] = []
    for position, stamp in enumerate(stamps):
        length = bisect_left(ends, stamp)
        before.append(at_end[length - 1] if length else -1)
        if length == len(ends):
            ends.append(stamp)
            at_end.append(position)
        else:
            ends[length], at_end[length] = stamp, position
    rise, position = [], at_end[-1] if at_end else -1
    while position >= 0:
        rise.append(position)
        position = before[position]
    return rise[::-1]


def _between(positions: list[int], seconds: list[float], count: int, step_s: float) -> tuple[float, ...]:
    """`seconds` at `positions`; between them evenly, before and behind them by steps. The first is 0."""
    at, known = [*positions], [*seconds]
    if at[0] > 0:
        at, known = [0, *at], [known[0] - at[0] * step_s, *known]
    if at[-1] < count - 1:
        known.append(known[-1] + (count - 1 - at[-1]) * step_s)
        at.append(count - 1)
    made = np.interp(np.arange(count), at, known) - known[0]
    return tuple(float(value) for value in made)


def _average_fps(pts: list[int], rate: Fraction | None, time_base: Fraction) -> Fraction:
    """The stream's own rate where the stamps keep to it within a tick, else the measured one."""
    if rate and all(abs((p - pts[0]) * time_base - i / rate) <= time_base for i, p in enumerate(pts)):
        return rate
    if len(pts) < 2:
        return rate or _FALLBACK_FPS
    return ((len(pts) - 1) / ((pts[-1] - pts[0]) * time_base)).limit_denominator(10_000)


def _rate_of(stream: Any) -> Fraction | None:
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate) if rate and rate > 0 else None


def _container_name(kind: str, path: Path) -> str:
    """FFmpeg names families ("mov,mp4,…", "matroska,webm"): the file's suffix tells which."""
    suffix = path.suffix.lower().lstrip(".")
    families = {"mov": ("mp4", "mov", "m4v", "3gp"), "matroska": ("mkv", "webm")}
    return suffix if suffix in families.get(kind, ()) else {"mov": "mp4", "matroska": "mkv"}.get(kind, kind)
