"""Tracks are checked when they are made; areas and spans are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sa2va_tools.errors import RequestError
from sa2va_tools.masks import geometry, rle
from sa2va_tools.masks.geometry import Span
from sa2va_tools.masks.track import MaskTrack

SIDE = 20


def _square(area_side: int) -> rle.Rle:
    mask_hw = np.zeros((SIDE, SIDE), dtype=bool)
    mask_hw[:area_side, :area_side] = True
    return rle.encode(mask_hw)


def _track(sides: list[int], frames: list[int] | None = None, **changes) -> MaskTrack:
    frames = list(range(len(sides))) if frames is None else frames
    values = {
        "size_wh": (SIDE, SIDE),
        "frame_indices": tuple(frames),
        "rles": tuple(_square(side) for side in sides),
        "object_scores": (0.9,) * len(sides),
        "mask_scores": (0.8,) * len(sides),
    }
    return MaskTrack(**{**values, **changes})


def test_areas_and_masks_are_found_by_source_frame():
    track = _track([3, 0, 5], [4, 6, 8])
    assert len(track) == 3
    assert track.areas == (9, 0, 25)
    assert track.visible == (4, 8)
    assert track.largest_frame == 8
    assert track.area(4) == 9
    assert track.mask(8).sum() == 25
    assert track.at(6) == rle.empty((SIDE, SIDE))
    assert track.covers(6)
    assert not track.covers(5)


def test_a_frame_that_was_not_searched_is_unknown():
    with pytest.raises(RequestError, match=r"no data for frame 5.*from 4 to 8") as caught:
        _track([3, 0, 5], [4, 6, 8]).mask(5)
    assert "4" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"frame_indices": (0, 1)}, "rles"),
        ({"frame_indices": (0, 2, 2)}, "frame_indices"),
        ({"frame_indices": (-1, 0, 1)}, "frame_indices"),
        ({"frame_indices": (), "rles": (), "object_scores": (), "mask_scores": ()}, "frame_indices"),
        ({"object_scores": (0.1, 0.2)}, "object_scores"),
        ({"object_scores": (0.1, 0.2, 1.1)}, "object_scores"),
        ({"mask_scores": (0.1, float("nan"), 0.1)}, "mask_scores"),
        ({"size_wh": (SIDE, SIDE + 1)}, "rles"),
    ],
)
def test_fields_that_do_not_fit_are_refused_by_name(changes, field):
    with pytest.raises(ValueError, match=f"^{field}"):
        _track([1, 2, 3], **changes)


def test_spans_split_at_covered_empty_frames_only():
    seconds = [index / 10 for index in range(20)]
    track = _track([1, 1, 0, 0, 2, 2, 2], [2, 4, 6, 8, 10, 12, 18])
    assert geometry.find_visible_spans(track, seconds) == (Span(2, 4, 0.2, 0.4), Span(10, 18, 1.0, 1.8))
    assert geometry.find_visible_spans(_track([0, 0]), seconds) == ()
    assert geometry.find_visible_spans(_track([2]), [0.0]) == (Span(0, 0, 0.0, 0.0),)


def test_spans_follow_uneven_timestamps():
    assert geometry.find_visible_spans(_track([1, 1]), [0.5, 3.25]) == (Span(0, 1, 0.5, 3.25),)
    with pytest.raises(ValueError, match="timestamps_s"):
        geometry.find_visible_spans(_track([1, 1]), [0.5])
