"""Full-size mask logits → the mask that leaves the model: cut at a threshold and, if wished, tidied.

Logits come on a coarse grid and are enlarged, so outlines follow its cells, and noise is a few cells wide.
What is done here is seen by the caller alone, never by SAM-2's memory.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

BLUR_CELLS = 0.5
"""Standard deviation of the blur, in cells of the logit grid: enough for its steps, little for a corner."""
REACH_CELLS = 0.5
"""The blur moves no outline farther than this many cells, rounded up to whole pixels."""
SPECK_SHARE = 0.01
"""Holes are filled and specks dropped below this part of the object's area …"""
SPECK_CELLS = 16.0
"""… unless they are larger than this many cells: a crowd's small people are no specks."""
_WHOLE_REACH = 8
"""Pixels up to which a mask is grown in one step; the work of one step rises with the square of the reach."""
_FINE_CELL = 32
"""Pixels of a cell that are enough to blur it."""
_LOGIT_LIMIT = 1.0  # where the edge is, is told by the logits near it; large ones would push it aside


_MOST_LOGIT = 9.5
"""Masks that were given have logits of ±10: no threshold empties or floods them."""


def full_size(
    logits_ll: NDArray[np.float32], image_size: int, size_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """(l, l) → (height, width) in two bilinear steps, over SAM-2's input size; one step gives other edges.
    OpenCV's steps are those of torch up to rounding, in a fifth of the time."""
    square = cv2.resize(logits_ll, (image_size, image_size), interpolation=cv2.INTER_LINEAR)
    full: NDArray[np.float32] = cv2.resize(square, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return full


def finished(
    logits_hw: NDArray[np.float32], *, threshold: float, smooth: bool, grid_side: int
) -> tuple[NDArray[np.bool_], float]:
    """The mask where the probability is over `threshold`, and the mean probability inside it (0 where it is
    empty). `grid_side` is that of the logits before they were enlarged."""
    bar = math.log(threshold) - math.log1p(-threshold)  # 0 for one half, exactly
    bar = max(-_MOST_LOGIT, min(_MOST_LOGIT, bar))
    mask = logits_hw > bar
    if smooth and mask.any():
        height, width = logits_hw.shape
        mask = tidy(logits_hw - np.float32(bar), mask, (width / grid_side, height / grid_side))
    inside = logits_hw[mask]
    return mask, float(np.mean(1 / (1 + np.exp(-inside)), dtype=np.float64)) if inside.size else 0.0


def tidy(
    margin_hw: NDArray[np.float32], mask_hw: NDArray[np.bool_], cell_wh: tuple[float, float]
) -> NDArray[np.bool_]:
    """The non-empty mask `margin_hw` > 0 with even edges, without small holes and specks; never empty.

    But for whole holes and specks, no pixel changes that is farther from the old outline than REACH_CELLS.
    """
    across, down = cell_wh
    radii = [math.ceil(3 * BLUR_CELLS * side) for side in cell_wh]
    reaches = [math.ceil(REACH_CELLS * side) for side in cell_wh]
    x, y, width, height = cv2.boundingRect(mask_hw.view(np.uint8))
    pad_x, pad_y = radii[0] + reaches[0], radii[1] + reaches[1]
    part = np.s_[max(y - pad_y, 0) : y + height + pad_y, max(x - pad_x, 0) : x + width + pad_x]
    blurred = _blurred(np.clip(margin_hw[part], -_LOGIT_LIMIT, _LOGIT_LIMIT), cell_wh)
    old = np.ascontiguousarray(mask_hw[part]).view(np.uint8)
    balls = _balls(reaches[0], reaches[1])
    even = (blurred >= _level(blurred, int(old.sum()))) & (functools.reduce(cv2.dilate, balls, old) > 0)
    even |= functools.reduce(cv2.erode, balls, old) > 0
    if not even.any():
        even = old > 0
    tidied = np.zeros_like(mask_hw)
    tidied[part] = _without_specks(_without_holes(even, across * down), across * down)
    return tidied


def _balls(across: int, down: int) -> list[NDArray[np.uint8]]:
    """Kernels that do the work of an ellipse of these radii when they are used one after the other.

    A large ellipse is the sum of smaller ones of its shape; and what is as wide as an ellipse already becomes
    twice as wide by moving it to the corners of that ellipse. Each is rounded inwards: they may fall short of
    the large one by a few pixels, and never reach beyond it.
    """
    if max(across, down) <= _WHOLE_REACH:
        return [cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * across + 1, 2 * down + 1))]
    halvings = math.ceil(math.log2(max(across, down) / _WHOLE_REACH))
    shares = [0.5**times for times in range(halvings, 0, -1)]
    ellipses = [_ellipse(share * across, share * down) for share in shares]
    return [ellipses[0], *(_corners(ellipse) for ellipse in ellipses)]


def _ellipse(across: float, down: float) -> NDArray[np.uint8]:
    """The pixels not farther from the middle one than these radii."""
    y, x = np.ogrid[-int(down) : int(down) + 1, -int(across) : int(across) + 1]
    return ((x / across) ** 2 + (y / down) ** 2 <= 1).astype(np.uint8)


def _corners(ellipse: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The corners of its outline, and its middle."""
    corners = np.zeros_like(ellipse)
    x, y = cv2.convexHull(cv2.findNonZero(ellipse))[:, 0].T
    corners[y, x] = 1
    corners[ellipse.shape[0] // 2, ellipse.shape[1] // 2] = 1
    return corners


def _blurred(values_hw: NDArray[np.float32], cell_wh: tuple[float, float]) -> NDArray[np.float32]:
    """By BLUR_CELLS; on a coarser grid where cells are large, for nothing as fine as a pixel stays."""
    shrink_x, shrink_y = (max(1, int(side // _FINE_CELL)) for side in cell_wh)
    height, width = values_hw.shape
    coarse = values_hw
    if shrink_x * shrink_y > 1:
        size_wh = max(1, width // shrink_x), max(1, height // shrink_y)
        coarse = cv2.resize(values_hw, size_wh, interpolation=cv2.INTER_AREA)
    across, down = cell_wh[0] * coarse.shape[1] / width, cell_wh[1] * coarse.shape[0] / height
    blurred = cv2.GaussianBlur(
        coarse,
        (2 * math.ceil(3 * BLUR_CELLS * across) + 1, 2 * math.ceil(3 * BLUR_CELLS * down) + 1),
        sigmaX=BLUR_CELLS * across,
        sigmaY=BLUR_CELLS * down,
        borderType=cv2.BORDER_REPLICATE,
    )
    if coarse is not values_hw:
        blurred = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(blurred, np.float32)


def _level(blurred_hw: NDArray[np.float32], area: int) -> np.float32:
    """Where to cut the blurred map so that the mask keeps its area: cut at 0, convex shapes would shrink."""
    flat = blurred_hw.ravel()
    return np.float32(np.partition(flat, flat.size - area)[flat.size - area])


def _without_holes(mask_hw: NDArray[np.bool_], cell: float) -> NDArray[np.bool_]:
    """Filled where the background is enclosed and small; what touches the picture's edge is no hole."""
    # Padded, so that all of the background around the object is one piece, also in a cropped picture.
    around = np.pad(~mask_hw, 1, constant_values=True).view(np.uint8)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(around, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA]
    small = areas <= _limit(int(mask_hw.sum()), cell)
    small[[0, pieces[0, 0]]] = False
    return mask_hw | small[pieces][1:-1, 1:-1]


def _without_specks(mask_hw: NDArray[np.bool_], cell: float) -> NDArray[np.bool_]:
    """Without its small pieces; the largest one stays."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask_hw.view(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = areas > _limit(int(mask_hw.sum()), cell)
    kept[1 + int(areas[1:].argmax())] = True
    kept[0] = False
    return np.asarray(kept[pieces])


def _limit(area: int, cell: float) -> float:
    return min(SPECK_SHARE * area, SPECK_CELLS * cell)
