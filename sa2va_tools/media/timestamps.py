"""Presentation timestamps of frames → seconds and a frame rate, even if some of them are damaged."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_FALLBACK_FPS = Fraction(25)
_MAX_OUT_OF_ORDER = 1.25
"""Frames per frame in order, up to which timestamps are trusted."""


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


def compute_times(
    stamps: Sequence[int | None], rate: Fraction | None, time_base: Fraction, last_duration: int
) -> FrameTimes:
    """`stamps` in presentation order and `last_duration` (0: unknown) are in ticks of `time_base` seconds.
    When stamps are missing, or many of them are out of order, frames are spaced evenly at `rate`."""
    pts = [stamp for stamp in stamps if stamp is not None]
    in_order = _longest_increasing(pts)
    if len(pts) == len(stamps) and len(in_order) < len(pts) <= _MAX_OUT_OF_ORDER * len(in_order):
        # Damage: a frame is out of order. It goes between its neighbours; the others keep their times.
        fps = _average_fps([pts[position] for position in in_order], None, time_base)
        known = [float((pts[position] - pts[in_order[0]]) * time_base) for position in in_order]
        seconds = _interpolate(in_order, known, len(pts), float(1 / fps))
        return FrameTimes(fps, seconds, float(last_duration * time_base or 1 / fps), (), is_guess=False)
    if len(pts) != len(stamps) or len(in_order) < len(pts):
        fps = rate or _FALLBACK_FPS
        seconds = tuple(float(index / fps) for index in range(len(stamps)))
        return FrameTimes(fps, seconds, float(1 / fps), (), is_guess=True)
    fps = _average_fps(pts, rate, time_base)
    seconds = tuple(float((stamp - pts[0]) * time_base) for stamp in pts)
    return FrameTimes(fps, seconds, float(last_duration * time_base or 1 / fps), tuple(pts), is_guess=False)


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


def _interpolate(positions: list[int], seconds: list[float], count: int, step_s: float) -> tuple[float, ...]:
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
    return tuple(float(time) for time in times)


def _average_fps(pts: list[int], rate: Fraction | None, time_base: Fraction) -> Fraction:
    """The stream's own rate if the timestamps follow it within a tick, else the measured one."""
    if rate and all(abs((p - pts[0]) * time_base - i / rate) <= time_base for i, p in enumerate(pts)):
        return rate
    if len(pts) < 2:
        return rate or _FALLBACK_FPS
    return ((len(pts) - 1) / ((pts[-1] - pts[0]) * time_base)).limit_denominator(10_000)
