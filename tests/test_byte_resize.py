"""Resizing bytes as torch does, the same on every processor."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sa2va_tools.model.preprocessing.byte_resize import resize_bytes

SIZES = [((112, 168), (544, 800)), ((252, 308), (224, 576)), ((700, 84), (192, 96)), ((56, 56), (56, 64))]


def draw_picture(size_hw):
    return np.random.default_rng(7).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size_hw", "new_hw"), SIZES)
def test_every_value_is_at_most_one_away_from_that_of_torch(size_hw, new_hw):
    picture = draw_picture(size_hw)
    planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
    expected = F.interpolate(planes, new_hw, mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()
    difference = np.abs(resize_bytes(picture, new_hw).astype(int) - expected)
    # Kernels of other processors round a few values to the other side.
    assert difference.max() <= 1 and np.count_nonzero(difference) <= 1e-3 * difference.size


def test_values_do_not_depend_on_the_processor():
    digest = hashlib.sha256()
    for size_hw, new_hw in SIZES:
        digest.update(resize_bytes(draw_picture(size_hw), new_hw).tobytes())
    assert digest.hexdigest()[:16] == "59568154f928a38c"


def test_a_picture_of_the_size_is_not_changed():
    picture = draw_picture((56, 84))
    assert np.array_equal(resize_bytes(picture, (56, 84)), picture)
