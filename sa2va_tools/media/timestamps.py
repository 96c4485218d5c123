"""Presentation timestamps of frames → seconds and a frame rate, even if some of them are damaged."""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_FALLBACK_FPS = Fraction(25)
_MAX_OUT_OF_ORDER = 1.25
"""Frames per frame in order, up to which timestamps are trusted."""
MAX_GAP_S = 10
"""FFmpeg takes longer gaps in transport and program streams for joins, too."""
_MIN_RUN = 4
"""Frames between two places where timestamps start again; useless timestamps go back more often."""


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """When the frames of a video are shown, in seconds from the first."""

    fps: Fraction
    """Average frames per second."""
    timestamps_s: tuple[float, ...]
    last_frame_s: float
    """How long the last frame is shown."""
    pts: tuple[int, ...]
    """The timestamps themselves, strictly increasing; empty when they cannot be used to seek."""
    is_guess: bool
    joins: tuple[int, ...] = ()
    """Frames at which the timestamps jump, as in recordings that were joined byte by byte."""


def compute_times(
    stamps: Sequence[int | None],
    rate: Fraction | None,
    time_base: Fraction,
    last_duration: int,
    *,
    may_jump: bool = False,
) -> FrameTimes:
    """`stamps` in presentation order and `last_duration` (0: unknown) are in ticks of `time_base` seconds.
    Where stamps go back for good, or forwards by more than `MAX_GAP_S` in a format that `may_jump`, the times
    go on with one frame's step. When stamps are missing, or many of them are out of order, frames are spaced
    evenly at `rate`."""
    pts = [stamp for stamp in stamps if stamp is not None]
    runs = _split_at_joins(pts, math.floor(MAX_GAP_S / time_base) if may_jump else sys.maxsize)
    orders = [_longest_increasing(run) for run in runs]
    usable = all(len(run) <= _MAX_OUT_OF_ORDER * len(order) for run, order in zip(runs, orders, strict=True))
    if len(pts) != len(stamps) or not usable:
        fps = rate or _FALLBACK_FPS
        seconds = tuple(float(index / fps) for index in range(len(stamps)))
        return FrameTimes(fps, seconds, float(1 / fps), (), is_guess=True)
    in_order = [[run[position] for position in order] for run, order in zip(runs, orders, strict=True)]
    is_sound = sum(map(len, in_order)) == len(pts)
    fps = _average_fps(in_order, rate if is_sound else None, time_base)
    times: list[float] = []
    joins: list[int] = []
    for run, order, kept in zip(runs, orders, in_order, strict=True):
        start_s = times[-1] + float(1 / fps) if times else 0.0
        joins += [len(times)] if times else []
        known = [float((stamp - kept[0]) * time_base) for stamp in kept]
        # Damage: a frame is out of order. It goes between its neighbours; the others keep their times.
        known = known if len(kept) == len(run) else _interpolate(order, known, len(run), float(1 / fps))
        times += [start_s + time_s for time_s in known]
    last_frame_s = float(last_duration * time_base or 1 / fps)
    seekable = tuple(pts) if is_sound and not joins else ()
    return FrameTimes(fps, tuple(times), last_frame_s, seekable, is_guess=False, joins=tuple(joins))


def _split_at_joins(stamps: list[int], max_gap: int) -> list[list[int]]:
    """The stamps, cut where they go back for good (no single frame around the cut is out of order) or jump
    by more than `max_gap`. In one piece when the pieces would be too short to be recordings."""
    cuts = [0]
    for at in range(2, len(stamps) - 1):
        goes_back = stamps[at] <= stamps[at - 2] and max(stamps[at : at + 2]) <= stamps[at - 1]
        if goes_back or min(stamps[at : at + 2]) - max(stamps[at - 2 : at]) > max_gap:
            cuts.append(at)
    runs = [stamps[start:end] for start, end in zip(cuts, [*cuts[1:], len(stamps)], strict=True)]
    return runs if all(len(run) >= _MIN_RUN for run in runs) else [stamps]


def space_evenly(times: FrameTimes, fps: Fraction) -> FrameTimes:
    """The same frames at `fps` frames per second."""
    seconds = tuple(float(index / fps) for index in range(len(times.timestamps_s)))
    return FrameTimes(fps, seconds, float(1 / fps), times.pts, is_guess=False)


def _longest_increasing(stamps: Sequence[int]) -> list[int]:
    """Positions of the longest strictly increasing subsequence (patience sorting)."""
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
            ends[length] = stamp
            at_end[length] = position
    increasing = []
    position = at_end[-1] if at_end else -1
    while position >= 0:
        increasing.append(position)
        position = before[position]
    return increasing[::-1]


def _interpolate(positions: list[int], seconds: list[float], count: int, step_s: float) -> list[float]:
    """`count` times that are `seconds` at `positions`: evenly spaced between these, by steps before and after
    them, shifted so that the first is 0."""
    knots = [*positions]
    known = [*seconds]
    if knots[0] > 0:
        knots, known = [0, *knots], [known[0] - knots[0] * step_s, *known]
    if knots[-1] < count - 1:
        known.append(known[-1] + (count - 1 - knots[-1]) * step_s)
        knots.append(count - 1)
    times = np.interp(np.arange(count), knots, known) - known[0]
    return [float(time) for time in times]


def _average_fps(runs: list[list[int]], rate: Fraction | None, time_base: Fraction) -> Fraction:
    """The stream's own rate if the timestamps of every run follow it within a tick, else the measured one."""
    if rate and all(
        abs((stamp - run[0]) * time_base - index / rate) <= time_base
        for run in runs
        for index, stamp in enumerate(run)
    ):
        return rate
    ticks = sum(run[-1] - run[0] for run in runs)
    if not ticks:
        return rate or _FALLBACK_FPS
    return (sum(len(run) - 1 for run in runs) / (ticks * time_base)).limit_denominator(10_000)
