"""The rule of what counts as found, by hand-made scores."""

from __future__ import annotations

import numpy as np
import pytest

from sa2va_tools.engine.tracks import explain_missing, score_track
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack


def _track(pixels, object_scores, mask_scores):
    masks = []
    for count in pixels:
        mask = np.zeros((4, 4), bool)
        mask.flat[:count] = True
        masks.append(rle.encode(mask))
    return MaskTrack((4, 4), tuple(range(len(pixels))), tuple(masks), object_scores, mask_scores)


def test_a_mask_in_one_frame_of_a_present_object_is_found():
    track = _track([0, 3, 0], (0.1, 0.9, 0.2), (0.0, 0.8, 0.0))
    assert explain_missing(track, gate_by_object_score=True) == ""
    assert score_track(track) == pytest.approx(0.72)


def test_no_pixel_in_any_frame_is_not_found():
    track = _track([0, 0], (0.9, 0.9), (0.0, 0.0))
    assert "empty in every frame" in explain_missing(track, gate_by_object_score=True)
    assert "empty in every frame" in explain_missing(track, gate_by_object_score=False)
    assert score_track(track) == 0


def test_an_object_absent_throughout_is_not_found_unless_the_rule_is_off():
    track = _track([5, 5], (0.4, 0.3), (0.9, 0.9))
    assert "0.40" in explain_missing(track, gate_by_object_score=True)
    assert explain_missing(track, gate_by_object_score=False) == ""


def test_absent_and_empty_says_absent():
    track = _track([0, 0], (0.2, 0.1), (0.0, 0.0))
    for gate in (True, False):
        assert "absent" in explain_missing(track, gate_by_object_score=gate)
