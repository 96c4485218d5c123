"""Where a track looks wrong, worked out by hand on squares."""

from __future__ import annotations

import numpy as np
import pytest

from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.masks import rle
from sa2va_tools.masks.suspects import Suspect, find_suspects
from sa2va_tools.masks.track import MaskTrack

SIDE = 20


def _track(sides, frames=None, *, corner=(0, 0), frame_side=SIDE) -> MaskTrack:
    """Squares of these sides, their upper left corner at `corner`."""
    masks = np.zeros((len(sides), frame_side, frame_side), bool)
    for mask, side in zip(masks, sides, strict=True):
        mask[corner[1] : corner[1] + side, corner[0] : corner[0] + side] = True
    scores = (0.9,) * len(sides)
    indices = tuple(range(len(sides)) if frames is None else frames)
    return MaskTrack(
        size_wh=(frame_side, frame_side),
        frame_indices=indices,
        rles=tuple(map(rle.encode, masks)),
        object_scores=scores,
        mask_scores=scores,
    )


def _reasons(track: MaskTrack) -> dict[int, tuple[str, ...]]:
    return {suspect.frame_index: suspect.reasons for suspect in find_suspects(track)}


JUMP = ("area jump",)
LOST = ("lost",)
FULL = ("full frame",)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([6, 6, 7, 8], {}),
        ([4, 8, 8], {1: JUMP}),  # 16 → 64 pixels
        ([9, 5, 5], {1: JUMP}),  # 81 → 25
        ([9, 6, 6], {}),  # 81 → 36 is less than threefold
        ([1, 2, 3, 4], {}),  # ratios of 4 between a handful of pixels
        ([9, 18, 9, 9], {1: JUMP}),  # one odd frame: the way back is none
        ([9, 18, 18, 9], {1: JUMP, 3: JUMP}),
        ([9, 18, 9, 18, 9], {1: JUMP, 3: JUMP}),
        ([9, 18, 4], {1: JUMP, 2: JUMP}),  # not back to where it was
        ([6, 0, 6], {1: LOST}),
        ([6, 0, 0, 6], {}),  # away for longer: it may well have left
        ([0, 6, 6, 0], {}),
        ([6, 0, 18], {1: LOST, 2: JUMP}),
        ([20, 20], {0: FULL, 1: FULL}),
        ([9, 20, 20], {1: (*JUMP, *FULL), 2: FULL}),
        ([19, 19], {}),  # 90 % of the frame
    ],
)
def test_reasons_by_hand(sides, expected):
    assert _reasons(_track(sides)) == expected


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([10, 10, 0, 0], {2: LOST}),  # gone at once, from the middle of the frame
        ([10, 10, 0, 0, 0, 10, 10, 0], {2: LOST, 7: LOST}),
        ([15, 13, 11, 10, 9, 8, 0, 0], {}),  # hidden little by little: 64 of 225 pixels were left
        ([6, 6, 0, 0], {}),  # too small to tell
        ([0, 0, 10], {}),  # not lost before it was there
    ],
)
def test_an_object_that_vanishes_at_once_away_from_the_edge_is_lost(sides, expected):
    assert _reasons(_track(sides, corner=(2, 2))) == expected


@pytest.mark.parametrize("corner", [(0, 5), (5, 0), (10, 5), (5, 10)])
def test_an_object_that_vanishes_at_the_edge_has_left(corner):
    assert _reasons(_track([10, 10, 0, 0], corner=corner)) == {}


def test_changes_of_a_few_cells_are_noise_in_a_large_frame():
    small = [8, 16, 16]
    large = [30, 60, 60]
    assert _reasons(_track(small, frame_side=2048)) == {1: JUMP}
    assert _reasons(_track(small, frame_side=4096)) == {}
    assert _reasons(_track(large, frame_side=4096)) == {1: JUMP}


def test_suspects_are_source_frames_and_objects_list_them():
    found = find_suspects(_track([6, 0, 6], [30, 40, 50]))
    assert found == (Suspect(40, ("lost",)),)
    assert MaskObject(label="x", size_wh=(SIDE, SIDE), suspects=found).suspect_frames == (40,)
