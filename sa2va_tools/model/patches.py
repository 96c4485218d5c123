"""Pictures to the patches that Qwen-VL's vision encoder reads, bit-faithful to the reference.

Follows what bytedance/Sa2VA does with qwen_vl_utils and transformers' image processor: two resizes, the
first to multiples of 28 whatever the model's own grid and with Pillow, the second to multiples of the merged
patch within fixed limits of pixels and with torch's kernel for bytes, the one behind torchvision's resize.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.errors import MediaError
from sa2va_tools.model.preprocess import Picture

_FIRST_FACTOR = 28
_FIRST_LIMITS = (4 * 28 * 28, 16384 * 28 * 28)
_LIMITS = (512 * 28 * 28, 2048 * 28 * 28)
_LONGEST = 200
_FRAMES = 2  # a picture stands for two frames of the encoder's time


@dataclass(frozen=True, slots=True)
class Patches:
    """`pixels` (patches of all pictures, 3 · 2 · side²), normalised, the patches that become one token side
    by side; `grids` rows and columns of patches of each picture."""

    pixels: NDArray[np.float32]
    grids: tuple[tuple[int, int], ...]


def picture_patches(
    pictures: Sequence[Picture],
    *,
    patch: int,
    merge: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Patches:
    """Resize, normalise and cut up. MediaError for a picture more than 200 times as long as wide."""
    average, spread = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    pixels, grids = [], []
    for picture in pictures:
        first = _by_pillow(
            picture, fitting_size(picture.shape[0], picture.shape[1], _FIRST_FACTOR, _FIRST_LIMITS)
        )
        resized = _by_torch(first, fitting_size(first.shape[0], first.shape[1], patch * merge, _LIMITS))
        values = (resized.astype(np.float32) / np.float32(255) - average) / spread
        rows, columns = resized.shape[0] // patch, resized.shape[1] // patch
        blocks = values.reshape(rows // merge, merge, patch, columns // merge, merge, patch, 3)
        patches = blocks.transpose(0, 3, 1, 4, 6, 2, 5)
        twice = np.repeat(patches[:, :, :, :, :, None], _FRAMES, axis=5)
        pixels.append(twice.reshape(rows * columns, -1))
        grids.append((rows, columns))
    return Patches(np.concatenate(pixels), tuple(grids))


def fitting_size(height: int, width: int, factor: int, limits: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in multiples of `factor`, with no fewer and no more pixels than `limits`, as near to
    the given aspect as they allow (qwen_vl_utils' smart_resize)."""
    if max(height, width) > _LONGEST * min(height, width):
        raise MediaError(
            f"The picture is {width}×{height}: more than {_LONGEST} times as long as wide.",
            hint="Crop it, or use an InternVL checkpoint such as Sa2VA-4B.",
        )
    fewest, most = limits
    nearest = round(height / factor) * factor, round(width / factor) * factor
    if nearest[0] * nearest[1] > most:
        shrunk = math.sqrt(height * width / most) * factor
        return max(factor, int(height / shrunk) * factor), max(factor, int(width / shrunk) * factor)
    if nearest[0] * nearest[1] < fewest:
        grown = math.sqrt(fewest / (height * width)) / factor
        return math.ceil(height * grown) * factor, math.ceil(width * grown) * factor
    return nearest


def _by_pillow(picture: Picture, size_hw: tuple[int, int]) -> Picture:
    if picture.shape[:2] == size_hw:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size_hw[::-1], Image.Resampling.BICUBIC))


def _by_torch(picture: Picture, size_hw: tuple[int, int]) -> Picture:
    if picture.shape[:2] == size_hw:
        return picture
    planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
    resized = F.interpolate(planes, size_hw, mode="bicubic", antialias=True, align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()
