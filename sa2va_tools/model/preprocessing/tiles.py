"""Pictures → the input of InternVL's vision encoder (square tiles) and of SAM-2 (one square), equal to the
reference bit for bit.

Numpy and Pillow only. Follows `dynamic_preprocess` and `DirectResize` of bytedance/Sa2VA: both resize with
Pillow's default filter (bicubic), and both normalise with ImageNet's statistics, which for SAM-2 are rounded
to bfloat16 (a quirk of the published code).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Picture = NDArray[np.uint8]
"""RGB, (height, width, 3)."""
Pixels = NDArray[np.float32]
"""Normalised, (n, 3, side, side)."""


def tile_grid(size_wh: tuple[int, int], min_tiles: int, max_tiles: int, side: int) -> tuple[int, int]:
    """(columns, rows) of tiles for a picture: the grid with the nearest aspect ratio. Among several, the one
    with the most tiles whose area is less than twice the picture's, as upstream chooses."""
    width, height = size_wh
    aspect = width / height
    grids = {
        (columns, rows)
        for total in range(min_tiles, max_tiles + 1)
        for columns in range(1, total + 1)
        for rows in range(1, total + 1)
        if min_tiles <= columns * rows <= max_tiles
    }
    best = (1, 1)
    best_gap = float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        gap = abs(aspect - columns / rows)
        is_better_tie = gap == best_gap and width * height > 0.5 * side * side * columns * rows
        if gap < best_gap or is_better_tie:
            best = (columns, rows)
            best_gap = gap
    return best


def tile_pictures(
    picture: Picture, side: int, *, min_tiles: int, max_tiles: int, thumbnail: bool
) -> list[Picture]:
    """The tiles of one picture, each side × side, row by row; then, if `thumbnail` is set and there are
    several tiles, the whole picture as one tile."""
    height, width = picture.shape[:2]
    columns, rows = tile_grid((width, height), min_tiles, max_tiles, side)
    resized = _resize(picture, (side * columns, side * rows))
    tiles = [
        resized[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    ]
    if thumbnail and len(tiles) > 1:
        tiles.append(_resize(picture, (side, side)))
    return tiles


def vision_pixels(tiles: list[Picture], side: int) -> Pixels:
    """Tiles or whole frames → (n, 3, side, side), normalised for the vision encoder."""
    square = np.stack([_resize(tile, (side, side)) for tile in tiles])
    mean, std = (np.asarray(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return _normalize(square, _make_lookup_table(mean, std))


def sam2_square(picture: Picture, side: int) -> Picture:
    """A frame at SAM-2's size, (side, side, 3). As in the published code, the aspect ratio changes."""
    return _resize(picture, (side, side))


def sam2_pixels(pictures: list[Picture], side: int) -> Pixels:
    """Frames of any size → (n, 3, side, side), normalised for SAM-2."""
    square = np.stack([sam2_square(picture, side) for picture in pictures])
    return _normalize(square, sam2_lookup_table())


def _resize(picture: Picture, size_wh: tuple[int, int]) -> Picture:
    if picture.shape[1::-1] == size_wh:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size_wh))


def sam2_lookup_table() -> NDArray[np.float32]:
    """(256, 3): each value of R, G and B normalised for SAM-2."""
    return _make_lookup_table(_round_to_bfloat16(IMAGENET_MEAN), _round_to_bfloat16(IMAGENET_STD))


def _make_lookup_table(mean: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    return (scaled - mean) / std


def _normalize(pictures: Picture, table: NDArray[np.float32]) -> Pixels:
    """(n, height, width, 3) → (n, 3, height, width). A table of 256 values per channel is faster than
    arithmetic on every pixel."""
    return np.stack([table[:, channel].take(pictures[..., channel]) for channel in range(3)], 1)


def _round_to_bfloat16(values: tuple[float, ...]) -> NDArray[np.float32]:
    """The nearest bfloat16 values (half to even), as float32."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32)
