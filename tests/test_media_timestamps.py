"""Times of frames: kept when one is out of order, guessed only when timestamps are useless."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from sa2va_tools.media.timestamps import compute_times

TICK = Fraction(1, 100)
STAMPS = [0, 3, 10, 12, 20, 31, 33, 40, 55, 60]
"""With a variable frame rate."""


def times_of(stamps):
    return compute_times(stamps, Fraction(2000), TICK, 5)


def test_ordered_timestamps_are_kept():
    clock = times_of(STAMPS)
    assert clock.timestamps_s == pytest.approx([stamp / 100 for stamp in STAMPS])
    assert clock.pts == tuple(STAMPS) and not clock.is_guess


@pytest.mark.parametrize(("at", "stray"), [(4, 58), (4, 1), (9, 2)])
def test_frame_out_of_order_leaves_the_other_times(at, stray):
    stamps = [*STAMPS]
    stamps[at] = stray
    clock = times_of(stamps)
    times = clock.timestamps_s
    assert all(before < after for before, after in itertools.pairwise(times))
    others = [number for number in range(len(stamps)) if number != at]
    assert [times[number] for number in others] == pytest.approx([STAMPS[number] / 100 for number in others])
    assert not clock.is_guess and clock.pts == ()


def test_first_frame_out_of_order_is_a_step_before_the_second():
    times = times_of([50, *STAMPS[1:]]).timestamps_s
    gaps = [stamp / 100 - STAMPS[1] / 100 for stamp in STAMPS[1:]]
    assert times[0] == 0.0 and [time - times[1] for time in times[1:]] == pytest.approx(gaps)


@pytest.mark.parametrize("stamps", [[None, *STAMPS], STAMPS[::-1], [7] * 10, [5, 4]])
def test_useless_timestamps_are_guessed(stamps):
    clock = times_of(stamps)
    assert clock.is_guess and clock.timestamps_s[1] == pytest.approx(1 / 2000)
