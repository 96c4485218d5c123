"""Pixels and cells as the reference makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sa2va_tools.errors import RequestError
from sa2va_tools.model.preprocess import (
    IMAGENET_MEAN,
    _bfloat16,
    grounding_pixels,
    tile_grid,
    tile_pictures,
)
from sa2va_tools.model.regions import region_cells, region_input

TILING = Path(__file__).parents[1].parent / "shared" / "golden" / "tiling.json"


def test_tiling_agrees_with_the_reference_for_every_recorded_size():
    if not TILING.is_file():
        pytest.skip("golden data is not beside the checkout: tiling.json is missing")
    for entry in json.loads(TILING.read_text(encoding="utf-8")):
        grid = tile_grid((entry["width"], entry["height"]), 1, 12, 448)
        assert grid == (entry["cols"], entry["rows"]), entry
        picture = np.zeros((entry["height"], entry["width"], 3), np.uint8)
        tiles = tile_pictures(picture, 32, min_tiles=1, max_tiles=12, thumbnail=True)
        if entry["width"] * entry["height"] > 448 * 448 * 12:
            assert len(tiles) == entry["tiles_with_thumbnail"]


def test_tiles_are_cut_row_by_row_and_end_with_the_whole():
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, 64:] = 255
    left, right, whole = tile_pictures(picture, 64, min_tiles=1, max_tiles=12, thumbnail=True)
    assert left.mean() < 20
    assert right.mean() > 235
    assert abs(whole.mean() - 127.5) < 5


def test_statistics_are_rounded_to_bfloat16_as_torch_rounds_them():
    expected = torch.tensor(IMAGENET_MEAN).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(_bfloat16(IMAGENET_MEAN), expected)


def test_grounding_pixels_ignore_the_aspect_ratio():
    assert grounding_pixels([np.zeros((30, 90, 3), np.uint8)], 64).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("size_hw", [(112, 224), (97, 61), (16, 16), (720, 1280), (5, 9)])
def test_region_cells_are_torchs_nearest_resize(size_hw):
    mask = np.random.default_rng(1).random(size_hw) > 0.5
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), (16, 16), mode="nearest"
    )
    np.testing.assert_array_equal(region_cells(mask, 16), np.flatnonzero(resized[0, 0].numpy() > 0))


def test_a_region_between_the_sample_points_is_rescued_by_cropping_in():
    picture = np.zeros((1024, 1024, 3), np.uint8)
    mask = np.zeros((1024, 1024), bool)
    mask[70:80, 70:80] = True
    assert len(region_cells(mask, 16)) == 0
    rescued = region_input(picture, mask, 16)
    assert rescued.cropped
    assert len(rescued.cells) >= 16
    assert rescued.picture.shape[0] < 64


def test_a_checkpoint_that_knows_single_cells_sees_a_region_between_the_points_in_the_whole_picture():
    picture, mask = np.zeros((128, 128, 3), np.uint8), np.zeros((128, 128), bool)
    mask[36:46, 17:27] = True  # 100 of the 256 pixels of cell (2, 1) of an 8 × 8 grid, and no sample point
    assert len(region_cells(mask, 8)) == 0
    whole = region_input(picture, mask, 8, cell_share=0.15)
    assert not whole.cropped
    assert whole.picture.shape == picture.shape
    assert whole.cells.tolist() == [2 * 8 + 1]
    assert region_input(picture, mask, 8, cell_share=0.5).cropped, "too little of the cell"
    assert region_input(picture, mask, 8).cropped, "published checkpoints never saw single cells"


def test_a_single_pixel_in_a_corner_still_has_a_cell():
    mask = np.zeros((300, 500), bool)
    mask[299, 499] = True
    rescued = region_input(np.zeros((300, 500, 3), np.uint8), mask, 16)
    assert rescued.cropped
    assert len(rescued.cells) >= 1


def test_an_empty_region_is_refused():
    with pytest.raises(RequestError, match="empty"):
        region_input(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), 16)
