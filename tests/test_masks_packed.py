"""Packed masks: the same RLEs, sorted by frame, in a fraction of the memory."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

import numpy as np
import pytest

from sa2va_tools.masks import rle
from sa2va_tools.masks.packed import CHUNK, PackedRles, RlePacker

SIZE_WH = (40, 30)


def _mask(number: int) -> rle.Rle:
    """A different mask for each number; empty for 0."""
    mask_hw = np.zeros(SIZE_WH[::-1], dtype=bool)
    mask_hw.reshape(-1)[: 3 * number] = True
    return rle.encode(mask_hw)


def _ragged(rng: np.random.Generator) -> rle.Rle:
    return rle.encode(rng.random((120, 160)) < 0.02)


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 5])
def test_all_come_back_in_order(count):
    masks = [_mask(number) for number in range(count)]
    packed = PackedRles.pack(SIZE_WH, masks)
    assert len(packed) == count
    assert list(packed) == masks
    assert list(packed.iter_counts()) == [mask["counts"] for mask in masks]
    assert packed.areas == tuple(3 * number for number in range(count))


def test_masks_may_be_added_in_any_order():
    """Key frames first, then onwards, then backwards, as a track does."""
    count = 3 * CHUNK
    order = list(dict.fromkeys([50, 70, *range(51, count), *range(49, -1, -1)]))
    packer = RlePacker(SIZE_WH)
    for position in order:
        packer.add(position, _mask(position))
    packed = packer.finish()
    assert packed == [_mask(position) for position in range(count)]
    assert packed.areas == tuple(3 * position for position in range(count))
    assert [packed[at] for at in (95, 0, 50, 64, 63)] == [_mask(at) for at in (95, 0, 50, 64, 63)]


def test_packed_masks_are_a_sequence():
    masks = [_mask(number) for number in range(70)]
    packed = PackedRles.pack(SIZE_WH, masks)
    assert packed[-1] == masks[-1]
    assert packed[60:66] == tuple(masks[60:66]) == packed[-10:-4]
    assert packed[::-1] == tuple(reversed(masks))
    assert masks[3] in packed and packed.index(masks[5]) == 5
    with pytest.raises(IndexError):
        packed[70]
    with pytest.raises(TypeError):
        packed[1.5]
    assert packed == tuple(masks) == packed and packed != masks[:-1]
    assert packed != [*masks[:-1], masks[0]] and packed != "masks"
    assert PackedRles.pack(SIZE_WH, packed) is packed


def test_a_mask_that_does_not_fit_is_refused_with_its_frame():
    turned = [_mask(1), rle.empty((30, 40))]
    with pytest.raises(ValueError, match=r"rles: expected size \[30, 40\] at frame 1, got \[40, 30\]"):
        PackedRles.pack(SIZE_WH, turned)
    with pytest.raises(ValueError, match="at frame 9"):
        PackedRles.pack(SIZE_WH, turned, [5, 9])
    with pytest.raises(ValueError, match="line break"):
        PackedRles.pack(SIZE_WH, [{"size": [30, 40], "counts": "0\n4"}])
    with pytest.raises(ValueError, match="shorter"):
        PackedRles.pack(SIZE_WH, iter([_mask(1), _mask(2)]), [5, 9, 10])


def test_more_masks_can_be_added_after_reading():
    packer = RlePacker(SIZE_WH)
    for number in range(10):
        packer.add(number, _mask(number))
    early = packer.finish()
    with pytest.raises(ValueError, match="size"):
        packer.add(10, rle.empty((30, 40)))
    for number in range(10, 2 * CHUNK):
        packer.add(number, _mask(number))
    assert early == [_mask(number) for number in range(10)]
    assert packer.finish() == [_mask(number) for number in range(2 * CHUNK)]


@pytest.mark.parametrize("at", [0, 5, CHUNK, 2 * CHUNK])
def test_one_mask_is_replaced_and_the_others_stay(at):
    masks = [_mask(number) for number in range(2 * CHUNK + 1)]
    packed = PackedRles.pack(SIZE_WH, masks)
    changed = packed.replace(at, _mask(333)).replace(0, _mask(222))
    masks_then = [*masks]
    masks_then[at] = _mask(333)
    masks_then[0] = _mask(222)
    assert changed == masks_then and changed.areas[0] == 666 and packed == masks
    with pytest.raises(ValueError, match=f"at frame {at}"):
        packed.replace(at, rle.empty((30, 40)))


def test_packed_masks_can_be_copied_and_pickled():
    packed = PackedRles.pack(SIZE_WH, [_mask(number) for number in range(40)])
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(packed, protocol)) == packed
    assert copy.deepcopy(packed) == packed


def test_readers_get_copies():
    packed = PackedRles.pack(SIZE_WH, [_mask(4)])
    packed[0]["size"][0] = 7
    assert packed[0] == _mask(4)


def test_smooth_masks_take_a_fraction_of_their_text():
    masks = [_mask(200 + number % 7) for number in range(4 * CHUNK)]
    tracemalloc.start()
    packed = PackedRles.pack(SIZE_WH, iter(masks))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    text = sum(len(mask["counts"]) for mask in masks)
    assert len(packed) == 4 * CHUNK
    assert held < 0.5 * text + 32 * len(masks)


def test_ragged_masks_cost_no_more_than_their_text():
    rng = np.random.default_rng(0)
    masks = [_ragged(rng) for _ in range(2 * CHUNK)]
    tracemalloc.start()
    packed = PackedRles.pack((160, 120), iter(masks))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert packed == masks
    assert held < sum(len(mask["counts"]) for mask in masks)
