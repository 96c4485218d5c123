"""Two masks of one result that are the same object are told so, wherever results are shown."""

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from sa2va_tools.engine.duplicates import mark_duplicates
from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.masks import rle
from sa2va_tools.masks.duplicates import find_duplicates
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.run import Run
from sa2va_tools.testing import FakeEngine, fake_engine, synthetic_clip
from sa2va_tools.tools.catalogue import find_tool

SIZE_WH = (120, 80)
Box = tuple[int, int, int, int]


def make_track(boxes: Sequence[Box | None], frames: Iterable[int] | None = None) -> MaskTrack:
    """A rectangle per frame; None where nothing is visible."""
    encoded = []
    for box in boxes:
        mask = np.zeros(SIZE_WH[::-1], bool)
        if box is not None:
            mask[box[1] : box[3], box[0] : box[2]] = True
        encoded.append(rle.encode(mask))
    ones = (1.0,) * len(boxes)
    return MaskTrack(SIZE_WH, tuple(frames or range(len(boxes))), tuple(encoded), ones, ones)


def moving(x: int, y: int = 10, side: int = 40, count: int = 12) -> list[Box | None]:
    return [(x + step, y, x + step + side, y + side) for step in range(count)]


def test_equal_and_nearly_equal_tracks_are_duplicates_of_the_first():
    first, shifted, other = make_track(moving(10)), make_track(moving(11)), make_track(moving(60))
    assert find_duplicates([first, other, shifted, first]) == [None, None, 0, 0]
    assert find_duplicates([other, first, shifted]) == [None, None, 1]


def test_a_few_frames_may_differ():
    boxes = moving(10, count=48)
    assert find_duplicates([make_track(boxes), make_track([None, *boxes[1:-1], None])]) == [None, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (moving(10), moving(16)),  # neighbours that overlap by 85 %
        (moving(10), [*moving(10)[:9], *moving(60)[9:]]),  # together for three quarters of the time
        (moving(10), [*moving(10)[:9], None, None, None]),  # one disappears earlier
        (moving(10), [(x0, y0, x1, y0 + 34) for x0, y0, x1, _ in moving(10)]),  # a part of it
        # Large and equal when near, small and apart when far: the areas of all frames together agree.
        (
            [(10, 10, 90, 70)] * 8 + [(10, 10, 18, 18)] * 4,
            [(10, 10, 90, 70)] * 8 + [(30, 10, 38, 18)] * 4,
        ),
        ([(0, 0, 60, 80)], [(60, 0, 120, 80)]),  # equal areas, nothing in common
    ],
)
def test_near_objects_are_not_duplicates(one, other):
    assert find_duplicates([make_track(one), make_track(other)]) == [None, None]


def test_what_is_not_seen_is_no_duplicate():
    nothing = make_track([None] * 3)
    seen = make_track(moving(10, count=3))
    assert find_duplicates([None, nothing, nothing, None, seen, seen]) == [None, None, None, None, None, 4]
    assert find_duplicates([]) == []


def test_tracks_over_different_frames_are_not_compared():
    boxes = moving(10, count=3)
    assert find_duplicates([make_track(boxes), make_track(boxes, frames=(0, 2, 4))]) == [None, None]


def test_objects_name_the_handle_of_the_first():
    tracks = [make_track(moving(10)), make_track(moving(60)), make_track(moving(10)), make_track(moving(10))]
    objects = [
        MaskObject(label=str(n), size_wh=SIZE_WH, handle=f"mask:{n}", track=track)
        for n, track in enumerate(tracks)
    ]
    objects.insert(1, MaskObject.missing("none", SIZE_WH, "not there"))
    marked = mark_duplicates(objects)
    assert [item.duplicate_of for item in marked] == [None, None, None, "mask:0", "mask:0"]
    assert mark_duplicates(marked) == marked


# ---- results --------------------------------------------------------------------------------------


@pytest.fixture
def engine(monkeypatch):
    """An engine in which everything that is called a box or a shape is the same object."""
    drifting = fake_engine.drifting
    monkeypatch.setattr(
        fake_engine,
        "drifting",
        lambda label, size_wh: drifting("same" if "box" in label or "shape" in label else label, size_wh),
    )
    with FakeEngine() as fake:
        yield fake


@pytest.fixture
def clip(tmp_path) -> str:
    return str(synthetic_clip(tmp_path / "clip.mp4"))


def call(engine: FakeEngine, name: str, **arguments: object):
    tool = find_tool(name)
    return tool.run(engine, tool.parse(arguments), Run())


def test_a_grounded_answer_tells_which_phrases_are_the_same_object(engine, clip):
    output = call(engine, "ground_conversation", media=clip)
    first, second = output.as_dict()["masks"]
    assert second["duplicate_of"] == first["handle"] and "duplicate_of" not in first
    assert f"the same object as {first['handle']}" in output.text


def test_expressions_for_one_object_are_told_and_others_are_not(engine, clip):
    result = engine.segment(clip, ["a box", "the unicorn", "the dog", "the shape"])
    assert [item.duplicate_of for item in result.objects] == [None, None, None, result.objects[0].handle]


def test_the_answer_handle_does_not_depend_on_duplicates(engine, clip, monkeypatch):
    with_them = engine.segment(clip, ["a box", "the shape"])
    monkeypatch.setattr("sa2va_tools.engine.recording.mark_duplicates", tuple)
    without = engine.segment(clip, ["a box", "the shape"])
    assert with_them.handle == without.handle and with_them.warnings == without.warnings
    assert with_them.objects[1].duplicate_of and without.objects[1].duplicate_of is None


def test_an_added_object_is_a_duplicate_of_an_older_one(engine, clip):
    old = engine.segment(clip, ["the dog", "a box"])
    new = engine.extend(old.handle, ["a shape", "the cat"])
    assert [item.duplicate_of for item in new.objects] == [None, None, old.objects[1].handle, None]
    again = engine.extend(new.handle, "the other shape")
    first = old.objects[1].handle
    assert [item.duplicate_of for item in again.objects[2:]] == [first, None, first]


def test_regions_that_are_the_same_are_told_for_tracks_and_captions(engine, clip):
    regions = [[10, 10, 40, 40], [10, 10, 40, 41], [60, 10, 90, 40]]
    tracked = engine.track(clip, regions)
    assert [item.duplicate_of for item in tracked.objects] == [None, tracked.objects[0].handle, None]
    captions = call(engine, "caption_region", media=clip, regions=regions).as_dict()["regions"]
    assert captions[1]["duplicate_of"] == captions[0]["handle"]
    assert [caption["text"] for caption in captions] == [
        item.text for item in engine.caption_region(clip, regions).captions
    ]


def test_an_image_has_duplicates_too(engine, tmp_path):
    pixels = np.zeros((60, 80, 3), np.uint8)
    result = engine.segment(pixels, ["a box", "the shape", "the dog"])
    assert [item.duplicate_of is not None for item in result.objects] == [False, True, False]


def test_a_view_of_a_stored_answer_tells_them_again(engine, clip):
    handle = engine.ground(clip).handle
    assert engine.view(handle).warnings == (
        "Mask 2 is the same object as mask 1: they are nearly equal in all frames.",
    )
