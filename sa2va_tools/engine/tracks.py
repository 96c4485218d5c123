"""Masks frame by frame → tracks with scores, and the rule for what counts as found."""

from __future__ import annotations

import math
from array import array
from collections.abc import Generator, Iterator
from typing import TypeVar

from sa2va_tools.engine.clip import Clip
from sa2va_tools.masks import rle
from sa2va_tools.masks.packed import RlePacker
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.model.output import FrameMasks
from sa2va_tools.run import Run

Result = TypeVar("Result")
_PRESENT = 0.5
"""Object probability from which SAM-2 takes an object to be in the frame (score logit 0)."""


class TrackBuilder:
    """One object's masks and scores, in the order in which frames are tracked."""

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self._size_wh = size_wh
        self._rles = RlePacker(size_wh)
        self._positions = array("q")
        self._object_scores = array("d")
        self._mask_scores = array("d")

    def add(self, frame: FrameMasks, number: int) -> None:
        """The mask of object `number` on the next frame."""
        self._rles.add(frame.position, rle.encode(frame.masks[number]))
        self._positions.append(frame.position)
        self._object_scores.append(frame.object_scores[number])
        self._mask_scores.append(frame.mask_scores[number])

    def build(self, clip: Clip) -> MaskTrack:
        """The track, in the order of time."""
        order = sorted(range(len(self._positions)), key=self._positions.__getitem__)
        return MaskTrack(
            size_wh=self._size_wh,
            frame_indices=clip.source_frames([self._positions[at] for at in order]),
            rles=self._rles.finish(),
            object_scores=tuple(self._object_scores[at] for at in order),
            mask_scores=tuple(self._mask_scores[at] for at in order),
        )


def build_tracks(
    clip: Clip, frames: Iterator[FrameMasks], objects: int, run: Run
) -> Generator[FrameMasks, None, list[MaskTrack]]:
    """Pass frames on; the return value is one track per object, shorter than the clip if that breaks off.
    Full-size masks live for one frame only."""
    builders = [TrackBuilder(clip.media.size_wh) for _ in range(objects)]
    for done, frame in enumerate(frames, start=1):
        for number, builder in enumerate(builders):
            run.raise_if_cancelled()
            builder.add(frame, number)
        run.report("propagate", done, len(clip), f"frame {done} of {len(clip)}")
        yield frame
    return [builder.build(clip) for builder in builders]


def run_to_end(frames: Generator[object, None, Result]) -> Result:
    """What a generator of frames returns, if nobody needs the frames."""
    while True:
        try:
            next(frames)
        except StopIteration as end:
            result: Result = end.value
            return result


def score_track(track: MaskTrack) -> float:
    """Mean over the frames with a mask of object probability × mean probability inside it."""
    columns = zip(track.object_scores, track.mask_scores, track.areas, strict=True)
    scores = [object_score * mask_score for object_score, mask_score, area in columns if area]
    return min(1.0, math.fsum(scores) / len(scores)) if scores else 0.0


def explain_missing(track: MaskTrack, *, gate_by_object_score: bool) -> str:
    """Why the object counts as not found; empty if it was found."""
    is_absent = all(score < _PRESENT for score in track.object_scores)
    if is_absent and (gate_by_object_score or not track.visible):
        return (
            "The model produced a mask but considers the object absent from every frame (highest object "
            f"probability {max(track.object_scores):.2f})."
        )
    return "" if track.visible else "The model produced a mask, but it is empty in every frame."
