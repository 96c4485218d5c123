"""Where a track looks wrong, and why. A suspicion is a reason to look, not a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sa2va_tools.masks import rle as rles_of
from sa2va_tools.masks.track import MaskTrack

Reason = Literal["area jump", "lost", "full frame"]

JUMP_RATIO = 3.0
"""Area that grows or shrinks this many times from one visible frame to the next is suspect."""
JUMP_MIN_AREA = 64
"""Below this many pixels …"""
JUMP_MIN_FRACTION = 1 / 16384
"""… or this part of the frame (four cells of SAM-2's 256 × 256 logits), changes of area are noise."""
FULL_FRAME_FRACTION = 0.98
"""A mask over more of the frame than this is suspect: more often a failure than a thing."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A source frame whose mask looks wrong."""

    frame_index: int
    reasons: tuple[Reason, ...]


def suspects(track: MaskTrack) -> tuple[Suspect, ...]:
    """The suspect frames of a track, in order, each with all of its reasons.

    `area jump`: JUMP_RATIO times the area in the visible frame before, or that fraction of it. The way back
    from a single odd frame is none.
    `lost`: the first empty frame where the mask is back in the next one, or where it has vanished at once:
    not at the edge of the frame, and not after it shrank to a fraction of its largest area so far.
    `full frame`: over more than FULL_FRAME_FRACTION of the frame.
    """
    found: dict[int, list[Reason]] = {}
    reasons: tuple[tuple[Reason, list[int]], ...] = (
        ("area jump", _jumps(track)),
        ("lost", _lost(track)),
        ("full frame", _full(track)),
    )
    for reason, positions in reasons:
        for position in positions:
            found.setdefault(position, []).append(reason)
    return tuple(Suspect(track.frame_indices[at], tuple(found[at])) for at in sorted(found))


def _jumps(track: MaskTrack) -> list[int]:
    seen = [(at, area) for at, area in enumerate(track.areas) if area]
    least = _least_area(track)
    jumped: list[int] = []
    for number, ((_, before), (at, after)) in enumerate(pairwise(seen)):
        steady = seen[number - 1][1] if number and jumped and jumped[-1] == seen[number][0] else None
        came_back = steady is not None and not _is_jump(steady, after, least)
        if _is_jump(before, after, least) and not came_back:
            jumped.append(at)
    return jumped


def _is_jump(before: int, after: int, least: float) -> bool:
    small, large = sorted((before, after))
    return large >= least and large >= JUMP_RATIO * small


def _lost(track: MaskTrack) -> list[int]:
    areas, lost, largest = track.areas, [], 0
    for at in range(1, len(areas)):
        before = areas[at - 1]
        largest = max(largest, before)
        if areas[at] == 0 and before:
            is_back = at + 1 < len(areas) and areas[at + 1] > 0
            at_once = before >= _least_area(track) and before * JUMP_RATIO > largest
            if is_back or (at_once and not _touches_edge(track, at - 1)):
                lost.append(at)
    return lost


def _full(track: MaskTrack) -> list[int]:
    limit = FULL_FRAME_FRACTION * track.size_wh[0] * track.size_wh[1]
    return [at for at, area in enumerate(track.areas) if area > limit]


def _least_area(track: MaskTrack) -> float:
    return max(JUMP_MIN_AREA, JUMP_MIN_FRACTION * track.size_wh[0] * track.size_wh[1])


def _touches_edge(track: MaskTrack, position: int) -> bool:
    box = rles_of.bounding_box_xyxy(track.rles[position])
    width, height = track.size_wh
    return box is not None and (box[0] <= 0 or box[1] <= 0 or box[2] >= width or box[3] >= height)
