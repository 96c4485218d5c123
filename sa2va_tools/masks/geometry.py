"""Where a mask is, and when it is seen. Knows nothing of pixels' colours, files or handles; seconds
come in from the media's own timestamps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.masks import rle as rles_of
from sa2va_tools.masks.rle import Rle
from sa2va_tools.masks.track import MaskTrack


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time through which a mask is seen; both ends belong to it."""

    start_frame: int
    end_frame: int
    """Source frame indices."""
    start_s: float
    end_s: float
    """When the first and the last of these frames begin to be shown."""


def centroid_xy(mask: NDArray[np.bool_] | Rle) -> tuple[float, float] | None:
    """Mean of the set pixels' middles, in pixels: one set pixel (x, y) has its centroid at
    (x + 0.5, y + 0.5), as boxes have it. None when no pixel is set."""
    mask_hw = rles_of.decode(mask) if isinstance(mask, Mapping) else mask
    total = int(np.count_nonzero(mask_hw))
    if total == 0:
        return None
    height, width = mask_hw.shape
    x = float(np.count_nonzero(mask_hw, axis=0) @ np.arange(width)) / total
    y = float(np.count_nonzero(mask_hw, axis=1) @ np.arange(height)) / total
    return (x + 0.5, y + 0.5)


def visible_spans(track: MaskTrack, timestamps_s: Sequence[float]) -> tuple[Span, ...]:
    """When the object is seen. `timestamps_s` has the seconds of every source frame of the media.

    Frames that a stride skipped do not split a span; a covered frame with an empty mask does.
    ValueError when a covered frame has no timestamp.
    """
    if track.frame_indices[-1] >= len(timestamps_s):
        raise ValueError(
            f"timestamps_s: expected one per source frame, at least {track.frame_indices[-1] + 1}, "
            f"got {len(timestamps_s)}"
        )
    return spans_of_covered(track, [timestamps_s[frame_index] for frame_index in track.frame_indices])


def spans_of_covered(track: MaskTrack, times_s: Sequence[float]) -> tuple[Span, ...]:
    """As `visible_spans`, where `times_s` has one entry per covered frame of the track."""
    if len(times_s) != len(track):
        raise ValueError(f"times_s: expected {len(track)}, one per covered frame, got {len(times_s)}")
    spans = []
    for seen, group in groupby(zip(track.areas, track.frame_indices, times_s, strict=True), _is_seen):
        if seen:
            stretch = list(group)
            (_, start_frame, start_s), (_, end_frame, end_s) = stretch[0], stretch[-1]
            spans.append(Span(start_frame, end_frame, float(start_s), float(end_s)))
    return tuple(spans)


def _is_seen(entry: tuple[int, int, float]) -> bool:
    return entry[0] > 0
