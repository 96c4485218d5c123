"""Which tracks are of the same object: those whose masks are nearly equal in all frames. Knows no handles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack

MIN_IOU = 0.9
"""Least intersection over union (IoU) of the areas of all frames together. Of masks that the nano made for two
expressions of one object, nine in ten had more than 0.97; of two objects that crossed, none more than 0.7."""
MIN_FRAME_IOU = 0.7
"""Least IoU on a frame where either of the two is visible …"""
MIN_FRAMES = 0.9
"""… which this part of those frames must have."""


def find_duplicates(tracks: Sequence[MaskTrack | None]) -> list[int | None]:
    """For each track the index of the first one that shows the same object, or None. None in place of a track
    (nothing was found), and a track without a visible mask, have no duplicates."""
    firsts: list[int] = []
    found: list[int | None] = []
    for number, track in enumerate(tracks):
        same = None
        if track is not None and any(track.areas):
            same = next((first for first in firsts if _are_same(tracks[first], track)), None)
            if same is None:
                firsts.append(number)
        found.append(same)
    return found


def _are_same(first: MaskTrack | None, second: MaskTrack) -> bool:
    if first is None or (first.size_wh, first.frame_indices) != (second.size_wh, second.frame_indices):
        return False
    areas = np.array([first.areas, second.areas], np.float64)
    # Areas alone rule most pairs out, without reading a mask.
    if not _agree(areas, areas.min(axis=0)):
        return False
    return _agree(areas, _measure_overlaps(first, second, areas))


def _agree(areas: NDArray[np.float64], overlaps: NDArray[np.float64]) -> bool:
    """`areas` (2, frames) and `overlaps` (frames,) in pixels."""
    unions = areas.sum(axis=0) - overlaps
    if overlaps.sum() < MIN_IOU * unions.sum():
        return False
    shown = unions > 0
    close = overlaps[shown] >= MIN_FRAME_IOU * unions[shown]
    return bool(close.mean() >= MIN_FRAMES)


def _measure_overlaps(first: MaskTrack, second: MaskTrack, areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels that both masks have, frame by frame."""
    overlaps = np.zeros(areas.shape[1])
    for at in np.flatnonzero(areas.min(axis=0)).tolist():
        iou = rle.iou(first.rles[at], second.rles[at])
        overlaps[at] = iou / (1 + iou) * areas[:, at].sum()
    return overlaps
