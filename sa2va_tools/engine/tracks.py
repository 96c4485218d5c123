"""Masks frame by frame → tracks with scores, and the rule of what counts as found."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

from sa2va_tools.engine.clip import Clip
from sa2va_tools.masks import rle
from sa2va_tools.masks.packed import RlePacker
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.model.output import FrameMasks
from sa2va_tools.progress import Progress, ProgressCallback

_PRESENT = 0.5
"""Object probability from which SAM-2 takes an object to be in the frame (score logit 0)."""


class _Column:
    """One object's masks and scores, as the walk comes by them."""

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self._rles, self._positions = RlePacker(size_wh), array("q")
        self._object_scores, self._mask_scores = array("d"), array("d")

    def add(self, frame: FrameMasks, number: int) -> None:
        self._rles.add(frame.position, rle.encode(frame.masks[number]))
        self._positions.append(frame.position)
        self._object_scores.append(frame.object_scores[number])
        self._mask_scores.append(frame.mask_scores[number])

    def track(self, clip: Clip) -> MaskTrack:
        order = sorted(range(len(self._positions)), key=self._positions.__getitem__)
        return MaskTrack(
            clip.media.size_wh,
            clip.sources([self._positions[at] for at in order]),
            self._rles.packed(),
            tuple(self._object_scores[at] for at in order),
            tuple(self._mask_scores[at] for at in order),
        )


def collect_tracks(
    clip: Clip, walk: Iterator[FrameMasks], objects: int, on_progress: ProgressCallback
) -> list[MaskTrack]:
    """Run the walk to its end; one track per object, shorter than the clip where that breaks off. Full masks
    live for one frame only."""
    columns = [_Column(clip.media.size_wh) for _ in range(objects)]
    for done, frame in enumerate(walk, start=1):
        for number, column in enumerate(columns):
            if clip.cancel is not None:
                clip.cancel.raise_if_cancelled()
            column.add(frame, number)
        on_progress(Progress("propagate", done, len(clip), f"frame {done} of {len(clip)}"))
    return [column.track(clip) for column in columns]


def score_of(track: MaskTrack) -> float:
    """Mean, over the frames with a mask, of object probability × mean probability inside it."""
    seen = [
        object_score * mask_score
        for object_score, mask_score, area in zip(
            track.object_scores, track.mask_scores, track.areas, strict=True
        )
        if area
    ]
    return min(1.0, math.fsum(seen) / len(seen)) if seen else 0.0


def why_not_found(track: MaskTrack, *, gate_by_object_score: bool) -> str:
    """The reason, or nothing where it was found."""
    absent = all(score < _PRESENT for score in track.object_scores)
    if absent and (gate_by_object_score or not track.visible):
        return (
            "The model pointed, but takes the object to be absent from every frame "
            f"(highest object probability {max(track.object_scores):.2f})."
        )
    return "" if track.visible else "The model pointed, but the mask is empty in every frame."
