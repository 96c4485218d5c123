"""Pictures to the pixels that each encoder was trained on, bit-faithful to the reference.

Numpy and Pillow only. Two destinations: square tiles for InternVL's vision encoder, and the square
that SAM-2 sees. Follows `dynamic_preprocess` and `DirectResize` of bytedance/Sa2VA; both resize
with Pillow's default filter (bicubic), and both normalise with ImageNet statistics, SAM-2's rounded
to bfloat16 (a quirk of the reference that the weights were used with).
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
    """(columns, rows) of tiles for a picture: the grid of the nearest aspect ratio; among equals the
    last whose area is not more than twice the picture's, as upstream chooses."""
    width, height = size_wh
    aspect = width / height
    grids = {
        (columns, rows)
        for total in range(min_tiles, max_tiles + 1)
        for columns in range(1, total + 1)
        for rows in range(1, total + 1)
        if min_tiles <= columns * rows <= max_tiles
    }
    best, best_gap = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        gap = abs(aspect - columns / rows)
        tie = gap == best_gap and width * height > 0.5 * side * side * columns * rows
        if gap < best_gap or tie:
            best, best_gap = (columns, rows), gap
    return best


def tile_pictures(
    picture: Picture, side: int, *, min_tiles: int, max_tiles: int, thumbnail: bool
) -> list[Picture]:
    """The tiles of one picture, row by row, each side × side, then its thumbnail if there is more
    than one tile and `thumbnail` is set."""
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
    """Tiles or whole frames → (n, 3, side, side) for the vision encoder."""
    square = np.stack([_resize(tile, (side, side)) for tile in tiles])
    mean, std = (np.asarray(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return _looked_up(square, _levels(mean, std))


def grounding_square(picture: Picture, side: int) -> Picture:
    """A frame at SAM-2's size, (side, side, 3); the aspect ratio is not kept, as upstream."""
    return _resize(picture, (side, side))


def grounding_pixels(pictures: list[Picture], side: int) -> Pixels:
    """Frames (of any size, or squares already) → (n, 3, side, side) for SAM-2."""
    square = np.stack([grounding_square(picture, side) for picture in pictures])
    return _looked_up(square, grounding_levels())


def _resize(picture: Picture, size_wh: tuple[int, int]) -> Picture:
    if picture.shape[1::-1] == size_wh:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size_wh))


def grounding_levels() -> NDArray[np.float32]:
    """(256, 3): what each value of a channel becomes for SAM-2."""
    return _levels(_bfloat16(IMAGENET_MEAN), _bfloat16(IMAGENET_STD))


def _levels(mean: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    return (scaled - mean) / std


def _looked_up(pictures: Picture, levels: NDArray[np.float32]) -> Pixels:
    """(n, height, width, 3) → (n, 3, height, width): 256 values need not be computed a million times."""
    return np.stack([levels[:, channel].take(pictures[..., channel]) for channel in range(3)], 1)


def _bfloat16(values: tuple[float, ...]) -> NDArray[np.float32]:
    """Round to the nearest bfloat16 (half to even), kept as float32."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32)
