"""COCO RLE: round trips, hand-worked figures, and encodings that must not reach pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle


def _mask(rows: str) -> np.ndarray:
    return np.array([[ch == "#" for ch in row] for row in rows.split()])


def test_random_masks_are_restored_and_agree_with_pycocotools():
    random = np.random.default_rng(7)
    for _ in range(150):
        height, width = random.integers(1, 50, 2)
        mask_hw = random.random((height, width)) < random.random()
        coded = rle.encode(mask_hw)
        reference = coco.encode(np.asfortranarray(mask_hw.astype(np.uint8)))
        assert coded == {"size": [height, width], "counts": reference["counts"].decode()}
        assert np.array_equal(rle.decode(coded), mask_hw)
        assert rle.validate(coded, size_wh=(width, height)) == coded
        assert rle.area(coded) == mask_hw.sum()


def test_any_value_but_zero_is_set():
    coded = rle.encode(np.array([[0, 1, 7, 255]], dtype=np.uint8))
    assert rle.decode(coded).tolist() == [[False, True, True, True]]


def test_area_and_box_by_hand():
    coded = rle.encode(_mask(".... .##. .#.. ...."))
    assert rle.area(coded) == 3
    assert rle.bounding_box_xyxy(coded) == (1.0, 1.0, 3.0, 3.0)
    assert rle.bounding_box_xyxy(rle.empty((4, 3))) is None
    assert rle.empty((4, 3))["size"] == [3, 4]


def test_iou_by_hand():
    first = rle.encode(_mask("##. ##. ..."))
    second = rle.encode(_mask(".## .## ..."))
    assert rle.iou(first, second) == pytest.approx(2 / 6)
    assert rle.iou(first, first) == 1.0
    assert rle.iou(rle.empty((3, 3)), first) == 0.0
    assert rle.iou(rle.empty((3, 3)), rle.empty((3, 3))) == 0.0
    with pytest.raises(ValueError, match="size"):
        rle.iou(first, rle.empty((4, 3)))


def test_a_rectangle_as_polygon_covers_its_pixels():
    coded = rle.from_polygon([(10, 5), (20, 5), (20, 8), (10, 8)], (30, 20))
    assert rle.area(coded) == 30
    assert rle.bounding_box_xyxy(coded) == (10.0, 5.0, 20.0, 8.0)


def test_a_polygon_is_cut_at_the_border():
    coded = rle.from_polygon([(-5, -5), (5, -5), (5, 5), (-5, 5)], (30, 20))
    assert rle.bounding_box_xyxy(coded) == (0.0, 0.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(0, 0), (1, 1)], "at least 3"),
        ([(0, 0), (1e9, 0), (1, 1)], "far outside"),
        ([(0, 0), (float("nan"), 0), (1, 1)], "far outside"),
        ([(0, 0), (float("-inf"), 0), (1, 1)], "far outside"),
        ([(-9, -9), (-8, -9), (-8, -8)], "covers no pixel"),
    ],
)
def test_useless_polygons_are_refused(points, words):
    with pytest.raises(RequestError, match=words):
        rle.from_polygon(points, (30, 20))


def test_a_wrong_array_is_a_programming_error():
    with pytest.raises(ValueError, match=r"\(h, w\)"):
        rle.encode(np.zeros((2, 3, 4), dtype=bool))
    with pytest.raises(ValueError, match="float"):
        rle.encode(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="non-empty"):
        rle.encode(np.zeros((0, 3), dtype=bool))


GOOD = {"size": [4, 6], "counts": rle.encode(np.eye(4, 6, dtype=bool))["counts"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": None}, "size must be"),
        ({"size": [4]}, "size must be"),
        ({"size": "46"}, "size must be"),
        ({"size": [4.0, 6]}, "size must be"),
        ({"size": [True, 6]}, "size must be"),
        ({"size": [0, 6]}, "size must be"),
        ({"size": [-4, -6]}, "size must be"),
        ({"size": [4, 7]}, "cover"),
        ({"size": [10**9, 10**9]}, "over"),
        ({"counts": None}, "text or a list of run lengths, got NoneType"),
        ({"counts": b"PP"}, "text or a list of run lengths, got bytes"),
        ({"counts": (24,)}, "text or a list of run lengths, got tuple"),
        ({"counts": ""}, "cover 0 pixels"),
        ({"counts": "é"}, "a character"),
        ({"counts": "\x00"}, "a character"),
        ({"counts": "~"}, "a character"),
        ({"counts": GOOD["counts"] + "P"}, "middle of a number"),
        ({"counts": GOOD["counts"][:-1]}, "cover"),
        ({"counts": "ooooooooooooooooooooooo0"}, "number that is too long"),
        ({"counts": "PPPPPPPPPPPPPPPP1"}, "number that is too long"),
        ({"counts": "O"}, "shorter than 0"),
        ({"counts": "oooo7"}, "longer than"),
        ({"counts": "1" * 1000}, "length 1000 are too long for 6×4 pixels"),
    ],
)
def test_malformed_rle_is_refused_in_words(change, words):
    with pytest.raises(RequestError, match=words) as caught:
        rle.validate({**GOOD, **change})
    assert "handle" in caught.value.hint


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([], "cover 0 pixels"),
        ([20], "cover 20 pixels"),
        ([20, 5], "cover 25 pixels, but the size 6×4 has 24"),
        ([24, 24], "cover 48 pixels"),
        ([25, -1], "shorter than 0"),
        ([-1, 25], "shorter than 0"),
        ([25], "longer than"),
        ([2**62, 2**62, 2**62, 2**62, 24], "longer than"),
        ([2**63, 24], "too long"),
        ([-(2**70), 24], "too long"),
        ([True, 23], "whole numbers"),
        ([24.0], "whole numbers"),
        ([float("nan")], "whole numbers"),
        (["24"], "whole numbers"),
        ([None, 24], "whole numbers"),
        ([[24]], "whole numbers"),
        ([0] * 1_000_000 + [24], "length 1000001 are too long"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_malformed_run_lengths_are_refused_in_words(runs, words):
    with pytest.raises(RequestError, match=words) as caught:
        rle.validate({"size": [4, 6], "counts": runs})
    assert "handle" in caught.value.hint and len(caught.value.message) < 200


def _run_lengths(mask_hw: np.ndarray) -> list[int]:
    """Down the columns, unset and set by turns, beginning with the unset ones."""
    columns = mask_hw.T.reshape(-1).astype(int)
    changes = np.flatnonzero(np.diff(columns, prepend=0))
    return np.diff([0, *changes, columns.size]).tolist()


def test_run_lengths_give_the_same_mask_as_the_compressed_form():
    random = np.random.default_rng(9)
    for _ in range(100):
        height, width = (int(side) for side in random.integers(1, 30, 2))
        mask_hw = random.random((height, width)) < random.random()
        data = {"size": [height, width], "counts": _run_lengths(mask_hw)}
        assert rle.validate(data, size_wh=(width, height)) == rle.encode(mask_hw)
        # pycocotools reads the list alike.
        assert coco.frPyObjects(data, height, width)["counts"].decode() == rle.encode(mask_hw)["counts"]


def test_run_lengths_that_begin_with_a_set_pixel_or_hold_empty_runs_are_read():
    assert rle.validate({"size": [2, 2], "counts": [0, 4]}) == rle.encode(np.ones((2, 2), dtype=bool))
    assert rle.validate({"size": [2, 2], "counts": [2, 0, 2]}) == rle.empty((2, 2))
    assert rle.validate({"size": [2, 2], "counts": [1, 0, 0, 2, 1, 0]}) == rle.encode(
        np.array([[False, True], [True, False]])
    )


def test_random_counts_never_crash():
    random = np.random.default_rng(3)
    accepted = 0
    for _ in range(3000):
        length = random.integers(1, 8)
        counts = "".join(chr(48 + int(code)) for code in random.integers(0, 64, length))
        try:
            accepted += rle.decode(rle.validate({"size": [5, 5], "counts": counts})).shape == (5, 5)
        except RequestError:
            continue
    assert accepted < 3000


def test_the_size_must_be_that_of_the_media():
    with pytest.raises(RequestError, match=r"\[6, 4\]"):
        rle.validate(GOOD, size_wh=(4, 6))
    assert rle.validate(GOOD, size_wh=(6, 4)) == GOOD


def test_empty_runs_are_dropped():
    # 2 unset, 0 set, 2 unset: the same mask as 4 unset.
    assert rle.validate({"size": [2, 2], "counts": "202"}) == rle.empty((2, 2))
