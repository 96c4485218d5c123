"""When a mask is visible, in frames and in the media's own seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sa2va_tools.masks.track import MaskTrack


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time through which a mask is visible; both ends belong to it."""

    start_frame: int
    end_frame: int
    """Source frame indices."""
    start_s: float
    end_s: float
    """When the first and the last of these frames begin to be shown."""


def find_visible_spans(track: MaskTrack, timestamps_s: Sequence[float]) -> tuple[Span, ...]:
    """When the object is visible. `timestamps_s` has the seconds of every source frame of the media.

    Frames that a stride skipped do not split a span; a covered frame with an empty mask does. ValueError if a
    covered frame has no timestamp.
    """
    if track.frame_indices[-1] >= len(timestamps_s):
        raise ValueError(
            f"timestamps_s: expected one per source frame, at least {track.frame_indices[-1] + 1}, "
            f"got {len(timestamps_s)}"
        )
    return find_spans(track, [timestamps_s[frame_index] for frame_index in track.frame_indices])


def find_spans(track: MaskTrack, times_s: Sequence[float]) -> tuple[Span, ...]:
    """Like `find_visible_spans`, but `times_s` has one entry per covered frame of the track."""
    if len(times_s) != len(track):
        raise ValueError(f"times_s: expected {len(track)}, one per covered frame, got {len(times_s)}")
    spans = []
    frames = zip(track.areas, track.frame_indices, times_s, strict=True)
    for visible, group in groupby(frames, key=_is_visible):
        if visible:
            stretch = list(group)
            _, start_frame, start_s = stretch[0]
            _, end_frame, end_s = stretch[-1]
            spans.append(
                Span(start_frame=start_frame, end_frame=end_frame, start_s=float(start_s), end_s=float(end_s))
            )
    return tuple(spans)


def _is_visible(frame: tuple[int, int, float]) -> bool:
    area, _, _ = frame
    return area > 0
