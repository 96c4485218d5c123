"""Pixels and region cells are those of the reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from golden_data import find_golden

from sa2va_tools.errors import RequestError
from sa2va_tools.model.preprocessing.region_prompts import prepare_region, region_cells
from sa2va_tools.model.preprocessing.tiles import (
    IMAGENET_MEAN,
    _round_to_bfloat16,
    sam2_pixels,
    tile_grid,
    tile_pictures,
)


def test_tiling_agrees_with_the_reference():
    for entry in json.loads(find_golden("tiling.json").read_text(encoding="utf-8")):
        grid = tile_grid((entry["width"], entry["height"]), 1, 12, 448)
        assert grid == (entry["cols"], entry["rows"]), entry
        picture = np.zeros((entry["height"], entry["width"], 3), np.uint8)
        tiles = tile_pictures(picture, 32, min_tiles=1, max_tiles=12, thumbnail=True)
        if entry["width"] * entry["height"] > 448 * 448 * 12:
            assert len(tiles) == entry["tiles_with_thumbnail"]


def test_tiles_come_row_by_row_and_the_thumbnail_last():
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, 64:] = 255
    left, right, whole = tile_pictures(picture, 64, min_tiles=1, max_tiles=12, thumbnail=True)
    assert left.mean() < 20
    assert right.mean() > 235
    assert abs(whole.mean() - 127.5) < 5


def test_statistics_are_rounded_to_bfloat16_as_by_torch():
    expected = torch.tensor(IMAGENET_MEAN).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(_round_to_bfloat16(IMAGENET_MEAN), expected)


def test_sam2_pixels_ignore_the_aspect_ratio():
    assert sam2_pixels([np.zeros((30, 90, 3), np.uint8)], 64).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("size_hw", [(112, 224), (97, 61), (16, 16), (720, 1280), (5, 9)])
def test_region_cells_are_those_of_torchs_nearest_resize(size_hw):
    mask = np.random.default_rng(1).random(size_hw) > 0.5
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), (16, 16), mode="nearest"
    )
    np.testing.assert_array_equal(region_cells(mask, 16), np.flatnonzero(resized[0, 0].numpy() > 0))


def test_a_region_between_the_sample_points_is_shown_on_a_crop():
    picture = np.zeros((1024, 1024, 3), np.uint8)
    mask = np.zeros((1024, 1024), bool)
    mask[70:80, 70:80] = True
    assert len(region_cells(mask, 16)) == 0
    region = prepare_region(picture, mask, 16)
    assert region.cropped
    assert len(region.cells) >= 16
    assert region.picture.shape[0] < 64


def test_a_covered_cell_replaces_the_crop_if_the_checkpoint_knows_such_cells():
    picture, mask = np.zeros((128, 128, 3), np.uint8), np.zeros((128, 128), bool)
    mask[36:46, 17:27] = True  # 100 of the 256 pixels of cell (2, 1) of an 8 × 8 grid, and no sample point
    assert len(region_cells(mask, 8)) == 0
    whole = prepare_region(picture, mask, 8, cell_share=0.15)
    assert not whole.cropped
    assert whole.picture.shape == picture.shape
    assert whole.cells.tolist() == [2 * 8 + 1]
    assert prepare_region(picture, mask, 8, cell_share=0.5).cropped, "too little of the cell is covered"
    assert prepare_region(picture, mask, 8).cropped, "published checkpoints were not trained with such cells"


def test_a_single_pixel_in_a_corner_still_has_a_cell():
    mask = np.zeros((300, 500), bool)
    mask[299, 499] = True
    region = prepare_region(np.zeros((300, 500, 3), np.uint8), mask, 16)
    assert region.cropped
    assert len(region.cells) >= 1


def test_an_empty_region_is_refused():
    with pytest.raises(RequestError, match="empty"):
        prepare_region(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), 16)
