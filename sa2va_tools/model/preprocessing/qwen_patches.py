"""Pictures → the patches that Qwen-VL's vision encoder takes, bit for bit as published.

Follows what bytedance/Sa2VA does with qwen_vl_utils and transformers' image processor, which resize twice:
first with Pillow to multiples of 28, whatever the model's own grid is; then to multiples of the merged patch,
within fixed limits of pixels, as torchvision does (byte_resize.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.errors import MediaError
from sa2va_tools.model.preprocessing.byte_resize import resize_bytes
from sa2va_tools.model.preprocessing.tiles import Picture

_FIRST_MULTIPLE = 28
_FIRST_LIMITS = (4 * 28 * 28, 16384 * 28 * 28)
_LIMITS = (512 * 28 * 28, 2048 * 28 * 28)
_MAX_ASPECT = 200
_FRAMES = 2  # the encoder takes pairs of frames; a picture is given twice


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches of some pictures."""

    pixels: NDArray[np.float32]
    """(patches of all pictures, 3 · 2 · side²), normalised; those that become one token follow each other."""
    grids: tuple[tuple[int, int], ...]
    """Rows and columns of each picture's patches."""


def make_patches(
    pictures: Sequence[Picture],
    *,
    patch: int,
    merge: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Patches:
    """Resize, normalise and cut into patches of side `patch`, of which `merge` × `merge` become one token.
    Raises MediaError for a picture more than 200 times as long as wide."""
    means, stds = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    pixels, grids = [], []
    for picture in pictures:
        first_size = fit_size(picture.shape[0], picture.shape[1], _FIRST_MULTIPLE, _FIRST_LIMITS)
        second_size = fit_size(*first_size, patch * merge, _LIMITS)
        resized = resize_bytes(_resize_with_pillow(picture, first_size), second_size)
        values = (resized.astype(np.float32) / np.float32(255) - means) / stds
        rows, columns = resized.shape[0] // patch, resized.shape[1] // patch
        blocks = values.reshape(rows // merge, merge, patch, columns // merge, merge, patch, 3)
        patches = blocks.transpose(0, 3, 1, 4, 6, 2, 5)
        pairs = np.repeat(patches[:, :, :, :, :, None], _FRAMES, axis=5)
        pixels.append(pairs.reshape(rows * columns, -1))
        grids.append((rows, columns))
    return Patches(np.concatenate(pixels), tuple(grids))


def fit_size(height: int, width: int, multiple: int, limits: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in multiples of `multiple`, with a number of pixels within `limits`, and an aspect
    ratio as near as these allow (qwen_vl_utils' smart_resize). Raises MediaError beyond an aspect of 200."""
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise MediaError(
            f"The picture is {width}×{height}: more than {_MAX_ASPECT} times as long as wide.",
            hint="Crop it, or use an InternVL checkpoint such as Sa2VA-4B.",
        )
    fewest, most = limits
    nearest = round(height / multiple) * multiple, round(width / multiple) * multiple
    if nearest[0] * nearest[1] > most:
        divisor = math.sqrt(height * width / most) * multiple
        return (
            max(multiple, int(height / divisor) * multiple),
            max(multiple, int(width / divisor) * multiple),
        )
    if nearest[0] * nearest[1] < fewest:
        scale = math.sqrt(fewest / (height * width)) / multiple
        return math.ceil(height * scale) * multiple, math.ceil(width * scale) * multiple
    return nearest


def _resize_with_pillow(picture: Picture, size_hw: tuple[int, int]) -> Picture:
    if picture.shape[:2] == size_hw:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size_hw[::-1], Image.Resampling.BICUBIC))
