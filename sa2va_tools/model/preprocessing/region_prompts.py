"""Region masks → the grid cells whose visual tokens the prompt repeats, or a crop with an outline.

No torch. As in the published code, a region is sampled at one point of each grid cell. A region that misses
all points is shown by the cell that it covers most, if the checkpoint was trained that way and enough of the
cell is covered, and otherwise by a crop around it. For checkpoints without region prompts, the region is
outlined on a crop, and the question is about the outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.errors import RequestError
from sa2va_tools.model.preprocessing.tiles import Picture

_OUTLINE = "the red outline"
_OUTLINE_RGB = (255, 0, 0)
_LINE_SHARE = 0.01
_CROP_SHARE = 0.5
"""The longer side of the region as a share of the crop's side."""


@dataclass(frozen=True, slots=True)
class RegionInput:
    """A picture, and the cells of one region on it; `cropped` if the picture is a crop around the region."""

    picture: Picture
    cells: NDArray[np.int64]
    cropped: bool


def region_cells(mask: NDArray[np.bool_], grid: int) -> NDArray[np.int64]:
    """Row-major numbers of the cells of a grid × grid nearest resize that are set (torch's
    `interpolate(mode="nearest")`: sample at floor(cell · side / grid))."""
    rows = _sample_points(mask.shape[0], grid)
    columns = _sample_points(mask.shape[1], grid)
    return np.flatnonzero(mask[np.ix_(rows, columns)]).astype(np.int64)


def find_fullest_cell(mask: NDArray[np.bool_], grid: int) -> tuple[int, float]:
    """The row-major number of the cell that the region covers most, and how much of it is covered (0 … 1)."""
    shares = cv2.resize(mask.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA).ravel()
    cell = int(shares.argmax())
    return cell, float(shares[cell])


def outline_region(picture: Picture, mask: NDArray[np.bool_]) -> Picture:
    """A crop around the region, with a red line just outside it. RequestError for an empty region."""
    _require_pixels(mask)
    part = _crop_around(mask)
    crop = picture[part].copy()
    inside = mask[part].astype(np.uint8)
    width = max(2, round(max(crop.shape[:2]) * _LINE_SHARE))
    outline = cv2.dilate(inside, np.ones((2 * width + 1,) * 2, np.uint8)) > inside
    crop[outline] = _OUTLINE_RGB
    return crop


def ask_about_outline(question: str) -> str:
    """A question about region1 as a question about the outlined region."""
    question = question.replace("marked by region1", f"marked by {_OUTLINE}")
    return question.replace("region1", f"the region inside {_OUTLINE}")


def prepare_region(
    picture: Picture, mask: NDArray[np.bool_], grid: int, *, cell_share: float | None = None
) -> RegionInput:
    """The picture as it is, or cropped around a region that misses all sample points of the grid.

    `cell_share` is how much of one cell such a region must cover so that this cell stands for it on the whole
    picture; None if the checkpoint was not trained with such cells. On a crop, a small thing looks large.
    Raises RequestError for an empty region.
    """
    _require_pixels(mask)
    cells = region_cells(mask, grid)
    if len(cells):
        return RegionInput(picture, cells, cropped=False)
    fullest, share = find_fullest_cell(mask, grid)
    if cell_share is not None and share >= cell_share:
        return RegionInput(picture, np.asarray([fullest], np.int64), cropped=False)
    part = _crop_around(mask)
    cropped = mask[part]
    cells = region_cells(cropped, grid)
    if not len(cells):
        # It misses the points of the crop as well: the cell under its center.
        ys, xs = np.nonzero(cropped)
        center = int(ys.mean() * grid / cropped.shape[0]) * grid + int(xs.mean() * grid / cropped.shape[1])
        cells = np.asarray([center], np.int64)
    return RegionInput(np.ascontiguousarray(picture[part]), cells, cropped=True)


def _require_pixels(mask: NDArray[np.bool_]) -> None:
    if not mask.any():
        raise RequestError(
            "The region is empty: it covers no pixel of the picture.",
            hint="Give a box, point or mask inside the picture; coordinates are [x, y] in pixels.",
        )


def _sample_points(side: int, grid: int) -> NDArray[np.int64]:
    scale = np.float32(side) / np.float32(grid)
    points = np.floor(np.arange(grid, dtype=np.float32) * scale).astype(np.int64)
    return np.minimum(points, side - 1)


def _crop_around(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The rows and columns of a square around the region, within the picture."""
    set_pixels = np.nonzero(mask)
    longest = max(int(np.ptp(at)) for at in set_pixels) + 1
    wanted = max(int(longest / _CROP_SHARE), 8)
    spans = []
    for at, limit in zip(set_pixels, mask.shape, strict=True):
        side = min(wanted, limit)
        start = int(np.clip((at.min() + at.max()) // 2 - side // 2, 0, limit - side))
        spans.append(slice(start, start + side))
    return tuple(spans)
