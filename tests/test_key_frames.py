"""Plans of what the language model sees: their warnings tell of the frames that are really shown."""

from __future__ import annotations

import pytest

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.key_frames import FramePlan, fewer_keys, fewer_seen, with_seen

CLIP = Clip(None, tuple(range(0, 200, 2)))  # 100 frames of something


def plan(seen, mode="sa2va", *others):
    return with_seen(FramePlan(mode, (99,), (0,), others), CLIP, tuple(seen))


@pytest.mark.parametrize(
    ("seen", "mode", "told"),
    [
        (range(5), "sa2va", "only the first 5 of 100 frames (up to frame 8)"),
        ([0], "sa2va", "only the first 1 of 100 frames (up to frame 0)"),
        ([0, 24, 49, 74, 99], "sa2va", None),
        (range(100), "sa2va", None),
        (range(5), "chat", None),
        (range(5), "sa2va-i", None),
    ],
)
def test_only_who_sees_the_beginning_alone_is_warned(seen, mode, told):
    warnings = plan(seen, mode, "another").warnings
    assert warnings[0] == "another" and len(warnings) == 1 + bool(told)
    assert not told or told in warnings[1]


def test_other_frames_bring_their_own_warning():
    first = plan(range(20))
    assert "first 20 of 100" in first.warnings[0]
    assert "first 10 of 100" in fewer_seen(first, CLIP).warnings[0]
    assert with_seen(first, CLIP, (0, 50, 99)).warnings == ()
    whole = plan(range(100))
    assert "first 50 of 100" in fewer_seen(whole, CLIP).warnings[0]


def test_fewer_key_frames_stay_spread_where_they_were():
    beginning, spread = (
        FramePlan("sa2va", (0,), (0, 1, 2, 3, 4)),
        FramePlan("sa2va-i", (0,), (0, 25, 50, 75, 99)),
    )
    assert fewer_keys(beginning).keys == (0, 1, 2) and fewer_keys(spread).keys == (0, 50, 99)
    assert fewer_keys(FramePlan("sa2va", (0,), (7,))).keys == (7,)
