"""Resize 8-bit pictures in integers, with the values of torch's antialiased bicubic `interpolate`.

torch has a kernel for each kind of processor, and they need not agree. Sums of integers are the same on all.
Algorithm: aten/src/ATen/native/cpu/UpSampleKernel.cpp of torch, which follows Pillow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LARGEST_WEIGHT = 2**15
_MOST_BITS = 22


def resize_bytes(picture: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) → (height, width, 3): first the width, then the height, both rounded to bytes."""
    height, width = size_hw
    if picture.shape[1] != width:
        picture = _resize_rows(picture.transpose(1, 0, 2), width).transpose(1, 0, 2)
    if picture.shape[0] != height:
        picture = _resize_rows(picture, height)
    return np.ascontiguousarray(picture)


def _resize_rows(rows: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """(N, …) → (count, …)"""
    sources, weights, bits = _make_weights(len(rows), count)
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    sums = np.full((count, flat.shape[1]), 1 << (bits - 1), np.int32)  # a half, so that the shift rounds
    for source, weight in zip(sources.T, weights.T, strict=True):
        sums += weight[:, None] * flat[source]
    return np.clip(sums >> bits, 0, 255).astype(np.uint8).reshape(count, *rows.shape[1:])


def _make_weights(size: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.int32], int]:
    """For each of `count` rows the rows that make it, (count, K), and their weights, (count, K), which are
    multiples of 2 ** -bits."""
    scale = size / count
    stretch = max(scale, 1.0)
    centers = (np.arange(count)[:, None] + 0.5) * scale
    first = np.maximum(np.floor(centers - 2 * stretch + 0.5), 0).astype(np.intp)
    end = np.minimum(np.floor(centers + 2 * stretch + 0.5), size).astype(np.intp)
    rows = first + np.arange((end - first).max())
    weights = np.where(rows < end, _cubic((rows - centers + 0.5) / stretch), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    bits = 0
    while bits < _MOST_BITS and int(weights.max() * 2 ** (bits + 1) + 0.5) < _LARGEST_WEIGHT:
        bits += 1
    integers = np.trunc(weights * 2**bits + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(rows, size - 1), integers, bits


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel with a = -0.5, which is 0 from a distance of 2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
