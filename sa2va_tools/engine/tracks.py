"""Masks frame by frame → tracks with scores, and the rule of what counts as found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from sa2va_tools.engine.clip import Clip
from sa2va_tools.masks import rle
from sa2va_tools.masks.rle import Rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.model.output import FrameMasks
from sa2va_tools.progress import Progress, ProgressCallback

_PRESENT = 0.5
"""Object probability from which SAM-2 takes an object to be in the frame (score logit 0)."""


@dataclass(slots=True)
class _Column:
    """One object's values by position."""

    rles: dict[int, Rle] = field(default_factory=dict)
    object_scores: dict[int, float] = field(default_factory=dict)
    mask_scores: dict[int, float] = field(default_factory=dict)


def collect_tracks(
    clip: Clip, walk: Iterator[FrameMasks], objects: int, on_progress: ProgressCallback
) -> list[MaskTrack]:
    """Run the walk to its end; one track per object, shorter than the clip where that breaks off. Full masks
    live for one frame only."""
    columns = [_Column() for _ in range(objects)]
    for done, frame in enumerate(walk, start=1):
        for number, column in enumerate(columns):
            if clip.cancel is not None:
                clip.cancel.raise_if_cancelled()
            column.rles[frame.position] = rle.encode(frame.masks[number])
            column.object_scores[frame.position] = float(frame.object_scores[number])
            column.mask_scores[frame.position] = float(frame.mask_scores[number])
        on_progress(Progress("propagate", done, len(clip), f"frame {done} of {len(clip)}"))
    return [_track(clip, column) for column in columns]


def _track(clip: Clip, column: _Column) -> MaskTrack:
    order = sorted(column.rles)
    return MaskTrack(
        clip.media.size_wh,
        clip.sources(order),
        tuple(column.rles[position] for position in order),
        tuple(column.object_scores[position] for position in order),
        tuple(column.mask_scores[position] for position in order),
    )


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
