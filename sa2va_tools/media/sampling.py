"""Which frames a call works on, and which of them the language model sees. Knows nothing of pixels."""

from __future__ import annotations

import math
from bisect import bisect_right
from numbers import Integral, Real

import numpy as np

from sa2va_tools.checks import show_value
from sa2va_tools.errors import RequestError
from sa2va_tools.media.media import Media
from sa2va_tools.wording import argument

_EPSILON_S = 1e-6
"""Timestamps are rounded binary fractions: a range from 0.3 should include a frame at 0.3."""


def select_frames(
    media: Media, *, start_s: float | None = None, end_s: float | None = None, stride: int = 1
) -> tuple[int, ...]:
    """Source indices of the frames that begin within [start_s, end_s], every `stride`-th of them; for a range
    between two frames, the one that is on the screen.

    Seconds count from the first frame; None means from the start, or to the end. Raises RequestError, with
    the duration, when the range is negative, reversed or contains no frame.
    """
    if not isinstance(stride, Integral) or stride < 1:
        raise RequestError(
            f"{argument('stride')} is {show_value(stride)}; it must be a whole number, 1 or more.",
            hint="1 takes every frame.",
        )
    if media.kind == "image":
        if start_s or end_s is not None:  # a start of 0 says nothing
            raise RequestError(
                f"{media.name} is an image and has no time range.",
                hint=f"Leave out {argument('start_s')} and {argument('end_s')}.",
            )
        return (0,)
    _check_range(media, start_s, end_s)
    first = -math.inf if start_s is None else start_s - _EPSILON_S
    last = math.inf if end_s is None else end_s + _EPSILON_S
    inside = [index for index, at_s in enumerate(media.timestamps_s) if first <= at_s <= last]
    if not inside and start_s is not None and start_s < (media.duration_s or 0.0):
        # Between two timestamps, the earlier frame is still on the screen.
        inside = [bisect_right(media.timestamps_s, start_s) - 1]
    if not inside:
        raise _range_error(media, f"No frame is shown {_describe_range(start_s, end_s)}")
    return tuple(inside[::stride])


def _check_range(media: Media, start_s: float | None, end_s: float | None) -> None:
    for name, value in (("start_s", start_s), ("end_s", end_s)):
        if value is not None and not (isinstance(value, Real) and math.isfinite(value) and value >= 0):
            raise _range_error(
                media, f"{argument(name)} is {show_value(value)}; it must be a number of seconds, 0 or more"
            )
    if start_s is not None and end_s is not None and end_s < start_s:
        raise _range_error(media, f"The range ends ({end_s:g} s) before it starts ({start_s:g} s)")


def _describe_range(start_s: float | None, end_s: float | None) -> str:
    if start_s is not None and end_s is not None:
        return f"from {start_s:g} s to {end_s:g} s"
    return f"after {start_s:g} s" if start_s is not None else f"up to {end_s:g} s"


def _range_error(media: Media, problem: str) -> RequestError:
    last_s = media.timestamps_s[-1]
    return RequestError(
        f"{problem}; {media.name} lasts {media.duration_s:.3f} s.",
        hint=f"Its {media.frame_count} frames are shown from 0 s to {last_s:.3f} s.",
    )


def first_positions(n_frames: int, count: int) -> tuple[int, ...]:
    """The first `count` of `n_frames` positions (fewer when there are fewer): mode `sa2va`."""
    return tuple(range(min(count, n_frames)))


def uniform_positions(n_frames: int, count: int) -> tuple[int, ...]:
    """`count` positions spread over `n_frames`, both ends included, with repeats when there are
    fewer frames than that: mode `sa2va-i`, and `describe` on a video."""
    if n_frames < 1 or count < 1:
        return ()
    return tuple(int(position) for position in np.linspace(0, n_frames - 1, count, dtype=int))
