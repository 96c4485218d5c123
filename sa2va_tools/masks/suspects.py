"""Where a track looks wrong, and why. A suspicion is a reason to look, not a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack

Reason = Literal["area jump", "lost", "full frame"]

JUMP_RATIO = 3.0
"""An area that grows or shrinks this many times from one visible frame to the next is suspect."""
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


def find_suspects(track: MaskTrack) -> tuple[Suspect, ...]:
    """The suspect frames of a track, in order, each with all of its reasons.

    `area jump`: the area is JUMP_RATIO times that of the previous visible frame or more, or a JUMP_RATIO-th
    of it or less. Returning from a single odd frame is not a jump. `lost`: the first empty frame, if the mask
    is back in the next frame, or if it vanished at once: neither at the edge of the frame nor after shrinking
    to a fraction of its largest area so far. `full frame`: the mask covers more than FULL_FRAME_FRACTION of
    the frame.
    """
    reasons: dict[int, list[Reason]] = {}
    checks: tuple[tuple[Reason, list[int]], ...] = (
        ("area jump", _find_jumps(track)),
        ("lost", _find_losses(track)),
        ("full frame", _find_full_frames(track)),
    )
    for reason, positions in checks:
        for position in positions:
            reasons.setdefault(position, []).append(reason)
    return tuple(Suspect(track.frame_indices[at], tuple(reasons[at])) for at in sorted(reasons))


def _find_jumps(track: MaskTrack) -> list[int]:
    visible = [(at, area) for at, area in enumerate(track.areas) if area]
    noise = _noise_area(track)
    jumps: list[int] = []
    for number, ((_, before), (at, after)) in enumerate(pairwise(visible)):
        came_from_jump = number > 0 and bool(jumps) and jumps[-1] == visible[number][0]
        is_back = came_from_jump and not _is_jump(visible[number - 1][1], after, noise)
        if _is_jump(before, after, noise) and not is_back:
            jumps.append(at)
    return jumps


def _is_jump(before: int, after: int, noise: float) -> bool:
    small, large = sorted((before, after))
    return large >= noise and large >= JUMP_RATIO * small


def _find_losses(track: MaskTrack) -> list[int]:
    areas = track.areas
    losses = []
    largest = 0
    for at in range(1, len(areas)):
        before = areas[at - 1]
        largest = max(largest, before)
        if areas[at] == 0 and before:
            is_back = at + 1 < len(areas) and areas[at + 1] > 0
            at_once = before >= _noise_area(track) and before * JUMP_RATIO > largest
            if is_back or (at_once and not _touches_edge(track, at - 1)):
                losses.append(at)
    return losses


def _find_full_frames(track: MaskTrack) -> list[int]:
    limit = FULL_FRAME_FRACTION * track.size_wh[0] * track.size_wh[1]
    return [at for at, area in enumerate(track.areas) if area > limit]


def _noise_area(track: MaskTrack) -> float:
    return max(JUMP_MIN_AREA, JUMP_MIN_FRACTION * track.size_wh[0] * track.size_wh[1])


def _touches_edge(track: MaskTrack, position: int) -> bool:
    box = rle.bounding_box_xyxy(track.rles[position])
    width, height = track.size_wh
    return box is not None and (box[0] <= 0 or box[1] <= 0 or box[2] >= width or box[3] >= height)
