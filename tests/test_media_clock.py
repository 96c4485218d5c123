"""Times of frames: kept where one comes out of its turn, guessed only where stamps tell nothing."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from sa2va_tools.media.videos import _clock

TICK = Fraction(1, 100)
STAMPS = [0, 3, 10, 12, 20, 31, 33, 40, 55, 60]
"""Of a variable frame rate."""


def _seconds(stamps):
    return _clock(stamps, Fraction(2000), TICK, 5)


def test_true_stamps_are_the_times():
    clock = _seconds(STAMPS)
    assert clock.timestamps_s == pytest.approx([stamp / 100 for stamp in STAMPS])
    assert clock.pts == tuple(STAMPS) and not clock.is_guess


@pytest.mark.parametrize(("at", "stray"), [(4, 58), (4, 1), (9, 2)])
def test_a_frame_out_of_its_turn_leaves_the_others_their_times(at, stray):
    stamps = [*STAMPS]
    stamps[at] = stray
    clock = _seconds(stamps)
    times = clock.timestamps_s
    assert all(before < after for before, after in itertools.pairwise(times))
    others = [number for number in range(len(stamps)) if number != at]
    assert [times[number] for number in others] == pytest.approx([STAMPS[number] / 100 for number in others])
    assert not clock.is_guess and clock.pts == ()


def test_a_first_frame_out_of_its_turn_is_a_step_before_the_second():
    times = _seconds([50, *STAMPS[1:]]).timestamps_s
    gaps = [stamp / 100 - STAMPS[1] / 100 for stamp in STAMPS[1:]]
    assert times[0] == 0.0 and [time - times[1] for time in times[1:]] == pytest.approx(gaps)


@pytest.mark.parametrize("stamps", [[None, *STAMPS], STAMPS[::-1], [7] * 10, [5, 4]])
def test_stamps_that_tell_nothing_are_guessed(stamps):
    clock = _seconds(stamps)
    assert clock.is_guess and clock.timestamps_s[1] == pytest.approx(1 / 2000)
