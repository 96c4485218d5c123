"""A video file → its exact frames: how many, when each is shown, which of them decode.

All packets are read first (fast: nothing is decoded), which bounds frames and seconds. Then frames are
decoded once while the budget lasts, so that damage is found on opening. Of a longer video the packets'
timestamps are trusted when they agree with all frames that were decoded (they need not: fields, hidden
frames), else it is decoded to the end; damage beyond the budget is an error of the frame that it affects. A
change of the frame size counts as damage, and the video ends before it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.container import decode_stream, find_stream, frame_orientation, open_video
from sa2va_tools.media.limits import check_duration, check_frames, check_pixels
from sa2va_tools.media.orientation import UPRIGHT, Orientation
from sa2va_tools.media.packets import Packets, read_packets
from sa2va_tools.media.picture_facts import PictureFacts, describe_picture, read_container_start
from sa2va_tools.media.probe import Probe, break_warning
from sa2va_tools.media.stream_rate import find_rate, require_no_rate
from sa2va_tools.media.timestamps import compute_times, space_evenly
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits

_MAX_DAMAGED_SHARE = 0.2
"""Beyond this share of damaged frames a file is called corrupt; a glitch stays below it."""


@dataclass(slots=True)
class _Decoded:
    """What the decoder returned."""

    pts: list[int | None] = field(default_factory=list)
    corrupt: int = 0
    """Frames that the decoder had to patch up."""
    faults: int = 0
    """Packets that did not decode."""
    intact: int = sys.maxsize
    """Frames before the first one that is lost or damaged."""
    to_end: bool = False
    """Whether decoding went on to the end, or to a change of size."""
    size_wh: tuple[int, int] = (0, 0)
    next_size_wh: tuple[int, int] | None = None
    """The size of the next frame, when that is where the size changes."""
    orientation: Orientation = UPRIGHT
    facts: PictureFacts = field(default_factory=PictureFacts)


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
    chooses a stream, `fps` is the rate of a video that has none. Raises RequestError for a wrong one of
    these, MediaUnreadableError when no frame can be used, MediaTooLargeError, OutOfMemoryError,
    CancelledError."""
    choice = find_stream(path, video_stream)
    number = choice.number
    with open_video(path, number) as (container, stream):
        size_wh = (int(stream.width), int(stream.height))
        check_pixels(path.name, size_wh, limits)
        rate = find_rate(container, stream)
        time_base = Fraction(stream.time_base)
        container_start_s = read_container_start(container)
        family = str(container.format.name).split(",")[0]
        packets = read_packets(path, container, stream, limits, run)
    if not packets.pts:
        raise MediaUnreadableError(
            f"{path.name} contains no frames.", hint="It may be cut off; export or download it again."
        )
    decode = partial(_decode, path, number, limits, run)
    decoded = decode(max(1, budget_px // max(1, size_wh[0] * size_wh[1])))
    stamps = sorted(packets.known_pts)
    if not decoded.to_end and (decoded.pts != stamps[: len(decoded.pts)] or len(stamps) < len(packets.pts)):
        decoded = decode(None)
    decoded, warnings = _select_usable(path, packets, decoded, lambda: decode(None))
    times = compute_times(
        decoded.pts if decoded.to_end else stamps, rate.fps, time_base, packets.last_duration
    )
    start_s = max(0.0, float(times.pts[0] * time_base) - container_start_s) if times.pts else 0.0
    natural = times
    if fps is not None:
        require_no_rate(path.name, rate, times)
        times = space_evenly(times, fps)
        start_s = 0.0
    check_duration(path.name, times.timestamps_s[-1] + times.last_frame_s, limits)
    assumed = rate.assumed_warning(path.name, times) if fps is None else ()
    facts = decoded.facts
    return Probe(
        _container_name(family, path),
        decoded.orientation.apply_size(decoded.size_wh),
        frame_count=len(times.timestamps_s),
        fps=times.fps,
        timestamps_s=times.timestamps_s,
        last_frame_s=times.last_frame_s,
        orientation=decoded.orientation,
        pts=() if _cannot_seek(decoded, times.pts, stamps) else times.pts,
        warnings=(*choice.warnings, *warnings, *assumed, *facts.warnings(path.name, start_s)),
        complete=not (packets.cut_off or decoded.faults or decoded.corrupt or decoded.next_size_wh),
        video_stream=number,
        given_fps=None if times.timestamps_s == natural.timestamps_s else fps,
        pixel_aspect=decoded.orientation.apply_aspect(facts.pixel_aspect),
        start_s=start_s,
    )


def _decode(path: Path, number: int, limits: MediaLimits, run: Run, count: int | None) -> _Decoded:
    """Decode at most `count` frames (None: all of them)."""
    found = _Decoded()

    def on_fault() -> None:
        found.faults += 1
        found.intact = min(found.intact, len(found.pts))

    def on_resize(size_wh: tuple[int, int]) -> None:
        found.next_size_wh = size_wh

    with open_video(path, number) as (container, stream):
        for frame in decode_stream(path, container, stream, on_fault, on_resize):
            run.raise_if_cancelled()
            if len(found.pts) == count:
                return found
            if not found.pts:
                found.size_wh = (frame.width, frame.height)
                check_pixels(path.name, found.size_wh, limits)
                found.orientation = frame_orientation(frame)
                found.facts = describe_picture(stream, frame)
            if frame.is_corrupt:
                found.corrupt += 1
                found.intact = min(found.intact, len(found.pts))
            found.pts.append(frame.pts)
            check_frames(path.name, len(found.pts), limits)
    found.to_end = True
    return found


def _select_usable(
    path: Path, packets: Packets, decoded: _Decoded, decode_all: Callable[[], _Decoded]
) -> tuple[_Decoded, list[str]]:
    """The frames that can be used, and warnings about those that are lost: frames that do not decode are
    skipped while they are few, else the video is used up to the first of them. Raises MediaUnreadableError
    when that leaves none."""
    count = len(decoded.pts)
    if count and decoded.faults + decoded.corrupt <= _MAX_DAMAGED_SHARE * (count + decoded.faults):
        return decoded, _damage_warnings(path, packets, decoded)
    if not decoded.to_end:
        decoded = decode_all()
    intact = min(decoded.intact, len(decoded.pts))
    if not intact:
        raise MediaUnreadableError(
            f"{path.name} is {'cut off' if packets.cut_off else 'corrupt'}: "
            f"{'none of its frames can be decoded' if not count else 'its first frames cannot be decoded'}.",
            hint="Export or download it again.",
        )
    if decoded.next_size_wh and intact == len(decoded.pts):
        return decoded, _damage_warnings(path, packets, decoded)
    decoded.pts = decoded.pts[:intact]
    return decoded, [break_warning(path.name, intact)]


def _damage_warnings(path: Path, packets: Packets, decoded: _Decoded) -> list[str]:
    """About a few lost frames, and about a change of the frame size."""
    warnings: list[str] = []
    if decoded.next_size_wh:
        sizes = (decoded.orientation.apply_size(size) for size in (decoded.size_wh, decoded.next_size_wh))
        change = " to ".join(f"{width}×{height}" for width, height in sizes)
        warnings.append(break_warning(path.name, len(decoded.pts), f"changes its size from {change}"))
    elif packets.cut_off:
        count = len(decoded.pts) if decoded.to_end else len(packets.pts)
        return [f"{path.name} ends early; its {count} readable frames are used."]
    if decoded.faults or decoded.corrupt:
        lost = f"{decoded.faults} cannot be decoded and {decoded.corrupt} have errors"
        warnings.append(f"{path.name} is damaged: of {len(packets.pts)} frames, {lost}.")
    return warnings


def _cannot_seek(decoded: _Decoded, pts: Sequence[int], stamps: Sequence[int]) -> bool:
    """Whether seeking might arrive at other frames: at packets behind a change of size that have the same
    timestamps, or between the key frames of an alpha channel."""
    is_repeated = bool(pts) and sum(stamp <= pts[-1] for stamp in stamps) > len(pts)
    return decoded.facts.has_alpha_aside or (decoded.next_size_wh is not None and is_repeated)


def _container_name(family: str, path: Path) -> str:
    """FFmpeg names families ("mov,mp4,…", "matroska,webm"): the file's suffix tells which member it is."""
    suffix = path.suffix.lower().lstrip(".")
    members = {"mov": ("mp4", "mov", "m4v", "3gp"), "matroska": ("mkv", "webm")}
    return (
        suffix if suffix in members.get(family, ()) else {"mov": "mp4", "matroska": "mkv"}.get(family, family)
    )
