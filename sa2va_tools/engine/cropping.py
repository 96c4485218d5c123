"""Which part of each frame a cropped picture shows: windows of one size that follow the masks."""

from __future__ import annotations

from collections.abc import Sequence

from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack

Window = tuple[int, int, int, int]
"""x0, y0, x1, y1 in source pixels, the last two exclusive."""
MARGIN = 0.25
"""Surroundings on each side, as a part of the longer side of what the masks cover."""
MIN_MARGIN_PX = 8


def follow_masks(
    tracks: Sequence[MaskTrack], frames: Sequence[int], size_wh: tuple[int, int]
) -> list[Window] | None:
    """A window for each frame, with all masks that are visible there in its middle. A frame without a visible
    mask gets the window of the nearest frame that has one. None if there is no visible mask."""
    boxes = [_surround(tracks, frame) for frame in frames]
    seen = [at for at, box in enumerate(boxes) if box is not None]
    if not seen:
        return None
    found = [box for box in boxes if box is not None]
    width = max(x1 - x0 for x0, _, x1, _ in found)
    height = max(y1 - y0 for _, y0, _, y1 in found)
    margin = max(MIN_MARGIN_PX, MARGIN * max(width, height))
    window_w, window_h = (
        min(side, round(length + 2 * margin)) for side, length in zip(size_wh, (width, height), strict=True)
    )
    windows = []
    for at in range(len(frames)):
        nearest = boxes[min(seen, key=lambda other: abs(other - at))]
        assert nearest is not None
        x0 = _place((nearest[0] + nearest[2]) / 2, window_w, size_wh[0])
        y0 = _place((nearest[1] + nearest[3]) / 2, window_h, size_wh[1])
        windows.append((x0, y0, x0 + window_w, y0 + window_h))
    return windows


def _surround(tracks: Sequence[MaskTrack], frame: int) -> tuple[float, float, float, float] | None:
    """The box around all masks on a frame."""
    all_boxes = [rle.bounding_box_xyxy(track.at(frame)) for track in tracks if track.covers(frame)]
    boxes = [box for box in all_boxes if box is not None]
    if not boxes:
        return None
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _place(middle: float, length: int, side: int) -> int:
    """Where a stretch of this length around `middle` begins, inside the picture."""
    return min(max(round(middle - length / 2), 0), side - length)
