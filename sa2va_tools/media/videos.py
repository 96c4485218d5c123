"""A video file → its exact frames: how many, when each is shown, which of them are damaged.

All packets are read first (fast: nothing is decoded), which bounds frames and seconds. Then frames are
decoded once while the budget lasts, so that damage is found on opening. Of a longer video the packets'
timestamps are trusted when they agree with all frames that were decoded (they need not: fields, hidden
frames), else it is decoded to the end; a frame beyond the budget that does not decode is an error when it is
read. Every frame that the decoder delivers is used, so damage does not change the index of a later frame.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.container import decode_stream, find_stream, frame_orientation, open_video
from sa2va_tools.media.damage import DecodedFrames, damage_warnings, resize_warning
from sa2va_tools.media.diagnosis.cut_off import find_cut
from sa2va_tools.media.limits import check_duration, check_frames, check_pixels
from sa2va_tools.media.packets import Packets, read_packets
from sa2va_tools.media.picture_facts import describe_picture, read_container_start
from sa2va_tools.media.probe import Probe, list_numbers
from sa2va_tools.media.stream_rate import StreamRate, find_rate, require_no_rate
from sa2va_tools.media.timestamps import FrameTimes, compute_times, space_evenly
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits

_MAX_DAMAGED_SHARE = 1 / 3
"""A file whose first frame is damaged is called corrupt when more than this share of its frames is, or when
more frames are lost than left."""


def probe_video(
    path: Path,
    limits: MediaLimits,
    run: Run,
    budget_px: int,
    *,
    video_stream: int | None = None,
    fps: Fraction | None = None,
) -> Probe:
    """Decodes up to `budget_px` pixels, or everything when the timestamps are not reliable. `video_stream`
    chooses a stream, `fps` is the rate of a video that has none. Raises RequestError for these two,
    MediaUnreadableError when no frame can be used, MediaTooLargeError, OutOfMemoryError, CancelledError."""
    choice = find_stream(path, video_stream)
    stream = _read_stream(path, choice.number, limits, run)
    decoded = _decode_and_check(path, choice.number, stream, limits, run, budget_px)
    times, given_fps = _compute_times(path.name, stream, decoded, fps, limits)
    start_s = stream.compute_start(times) if fps is None else 0.0
    warnings = _find_warnings(path.name, stream, decoded, times, may_assume=fps is None)
    is_damaged = bool(stream.packets.has_hole or decoded.faults or decoded.damaged)
    # Alpha has key frames of its own, and with errors, frames depend on where one begins.
    must_start_over = decoded.facts.has_alpha_aside or (is_damaged and decoded.to_end)
    return Probe(
        _container_name(stream.family, path),
        decoded.size_wh,
        frame_count=len(times.timestamps_s),
        fps=times.fps,
        timestamps_s=times.timestamps_s,
        last_frame_s=times.last_frame_s,
        orientation=decoded.orientation,
        pts=() if must_start_over else times.pts,
        warnings=(*choice.warnings, *warnings, *decoded.facts.warnings(path.name, start_s)),
        complete=not (stream.packets.cut_off or is_damaged),
        damaged_frames=tuple(sorted(decoded.damaged)),
        same_size_frames=decoded.changes[0][0] if decoded.changes else len(decoded.pts),
        video_stream=choice.number,
        given_fps=given_fps,
        pixel_aspect=decoded.orientation.apply_aspect(decoded.facts.pixel_aspect),
        start_s=start_s,
    )


@dataclass(frozen=True, slots=True)
class _Stream:
    """What a file says about the stream before it is decoded."""

    size_wh: tuple[int, int]
    """As stored."""
    rate: StreamRate
    time_base: Fraction
    container_start_s: float
    """Second 0 of a player's clock, as the container counts."""
    family: str
    """FFmpeg's name of the format, or of the first of its family."""
    packets: Packets

    def compute_start(self, times: FrameTimes) -> float:
        """When a player shows the first frame, in seconds."""
        if not times.pts:
            return 0.0
        return max(0.0, float(times.pts[0] * self.time_base) - self.container_start_s)


def _read_stream(path: Path, number: int, limits: MediaLimits, run: Run) -> _Stream:
    """Reads all packets. MediaUnreadableError when there are none."""
    with open_video(path, number) as (container, stream):
        size_wh = (int(stream.width), int(stream.height))
        check_pixels(path.name, size_wh, limits)
        found = _Stream(
            size_wh,
            find_rate(container, stream),
            Fraction(stream.time_base),
            read_container_start(container),
            str(container.format.name).split(",")[0],
            read_packets(path, container, stream, limits, run),
        )
    if not found.packets.pts:
        raise MediaUnreadableError(
            f"{path.name} contains no frames.", hint="It may be cut off; export or download it again."
        )
    found.packets.cut_off = found.packets.cut_off or bool(find_cut(path))
    return found


def _decode_and_check(
    path: Path, number: int, stream: _Stream, limits: MediaLimits, run: Run, budget_px: int
) -> DecodedFrames:
    """At least what the budget allows, with what the packets tell about the rest. MediaUnreadableError when
    the file is too damaged."""
    packets = stream.packets
    budget = max(1, budget_px // max(1, stream.size_wh[0] * stream.size_wh[1]))
    decode = partial(_decode, path, number, limits, run)
    decoded = _decode_exactly(packets, budget, lambda count, damaged: decode(count, damaged=damaged))
    decoded.mark_lost_and_damaged(packets.damaged_pts)
    _check_usable(path, packets, decoded)
    stamps = sorted(packets.known_pts)
    for at, changed_wh in packets.size_changes if not decoded.to_end else ():
        check_pixels(path.name, changed_wh, limits)
        decoded.add_change(bisect_left(stamps, at), decoded.orientation.apply_size(changed_wh))
    return decoded


def _compute_times(
    name: str, stream: _Stream, decoded: DecodedFrames, fps: Fraction | None, limits: MediaLimits
) -> tuple[FrameTimes, Fraction | None]:
    """By the timestamps of all frames if they were decoded, else by those of the packets; at the caller's
    rate `fps` if there is one. Second, that rate if it makes a difference. RequestError if the file has times
    of its own, MediaTooLargeError."""
    packets = stream.packets
    natural = compute_times(
        decoded.pts if decoded.to_end else sorted(packets.known_pts),
        stream.rate.fps,
        stream.time_base,
        packets.last_duration,
        may_jump=packets.may_jump,
    )
    if fps is not None:
        require_no_rate(name, stream.rate, natural)
    times = natural if fps is None else space_evenly(natural, fps)
    check_duration(name, times.timestamps_s[-1] + times.last_frame_s, limits)
    return times, None if times.timestamps_s == natural.timestamps_s else fps


def _find_warnings(
    name: str, stream: _Stream, decoded: DecodedFrames, times: FrameTimes, *, may_assume: bool
) -> list[str]:
    """About damage, changes of size, joins, and, unless the caller gave it, the frame rate."""
    count = len(times.timestamps_s)
    packets = stream.packets
    warnings = damage_warnings(name, decoded, count, cut_off=packets.cut_off, has_hole=packets.has_hole)
    warnings += resize_warning(name, decoded)
    if times.joins:
        warnings.append(
            f"The timestamps of {name} jump at {list_numbers('frame', times.joins)}, as in recordings that "
            "were joined; their times go on from the frame before."
        )
    return [*warnings, *(stream.rate.warn_if_assumed(name, times) if may_assume else ())]


def _decode_exactly(
    packets: Packets, budget: int, decode: Callable[[int | None, bool], DecodedFrames]
) -> DecodedFrames:
    """`budget` frames, or all of them when the packets do not tell the timestamps of the rest."""
    damaged = packets.cut_off or packets.has_hole or bool(packets.damaged_pts)
    decoded = decode(budget, damaged)
    if not damaged and (decoded.faults or decoded.damaged):
        damaged = True
        decoded = decode(budget, damaged)
    stamps = sorted(packets.known_pts)
    agree = decoded.pts == stamps[: len(decoded.pts)] and len(stamps) == len(packets.pts)
    return decoded if decoded.to_end or agree else decode(None, damaged)


def _decode(
    path: Path, number: int, limits: MediaLimits, run: Run, count: int | None, *, damaged: bool
) -> DecodedFrames:
    """Decode at most `count` frames (None: all of them)."""
    found = DecodedFrames()
    size_wh = (0, 0)
    with open_video(path, number, damaged=damaged) as (container, stream):
        for frame in decode_stream(path, container, stream, found.add_fault):
            run.raise_if_cancelled()
            if len(found.pts) == count:
                return found
            if (frame.width, frame.height) != size_wh:
                size_wh = (frame.width, frame.height)
                check_pixels(path.name, size_wh, limits)
            if not found.pts:
                found.facts = describe_picture(stream, frame)
            orientation = frame_orientation(frame, found.orientation)
            found.add(frame.pts, orientation, orientation.apply_size(size_wh), damaged=frame.is_corrupt)
            check_frames(path.name, len(found.pts), limits)
    found.to_end = True
    return found


def _check_usable(path: Path, packets: Packets, decoded: DecodedFrames) -> None:
    """Raises MediaUnreadableError when no frame decodes, or the first is damaged and many others are."""
    count = len(decoded.pts)
    starts_damaged = 0 in decoded.damaged
    is_corrupt = len(decoded.damaged) > _MAX_DAMAGED_SHARE * count or decoded.faults > count
    if count and not (starts_damaged and is_corrupt):
        return
    problem = "its first frames cannot be decoded" if count else "none of its frames can be decoded"
    raise MediaUnreadableError(
        f"{path.name} is {'cut off' if packets.cut_off else 'corrupt'}: {problem}.",
        hint="Export or download it again.",
    )


def _container_name(family: str, path: Path) -> str:
    """FFmpeg names families ("mov,mp4,…", "matroska,webm"): the file's suffix tells which member it is."""
    suffix = path.suffix.lower().lstrip(".")
    members = {"mov": ("mp4", "mov", "m4v", "3gp"), "matroska": ("mkv", "webm")}
    return (
        suffix if suffix in members.get(family, ()) else {"mov": "mp4", "matroska": "mkv"}.get(family, family)
    )
