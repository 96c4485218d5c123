"""Region masks → the grid cells whose visual tokens a region prompt repeats, or a crop with an outline.

No torch. Nearest sampling on the grid, as the published code does. A region that meets no sample point is
rescued: by the cell that it covers most, where the checkpoint was trained so and enough of one is covered,
else by cropping in around it. For checkpoints without region prompts the region is
outlined on a crop, and the question speaks of the outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.errors import RequestError
from sa2va_tools.model.preprocess import Picture

_OUTLINE, _OUTLINE_RGB, _LINE_SHARE = "the red outline", (255, 0, 0), 0.01
_RESCUE_SHARE = 0.5
"""Share of the crop's side that the rescued region's longer side takes up."""


@dataclass(frozen=True, slots=True)
class RegionInput:
    """A picture and the cells of one region on it; `cropped` where the rescue was needed."""

    picture: Picture
    cells: NDArray[np.int64]
    cropped: bool


def region_cells(mask: NDArray[np.bool_], grid: int) -> NDArray[np.int64]:
    """Row-major numbers of the cells of a grid × grid nearest resize that are set (torch's
    `interpolate(mode="nearest")`: sample at floor(cell · side / grid))."""
    rows = _sample_points(mask.shape[0], grid)
    columns = _sample_points(mask.shape[1], grid)
    return np.flatnonzero(mask[np.ix_(rows, columns)]).astype(np.int64)


def fullest_cell(mask: NDArray[np.bool_], grid: int) -> tuple[int, float]:
    """The row-major number of the cell that the region covers most, and the share (0 … 1) covered of it."""
    shares = cv2.resize(mask.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA).ravel()
    cell = int(shares.argmax())
    return cell, float(shares[cell])


def outlined_region(picture: Picture, mask: NDArray[np.bool_]) -> Picture:
    """A crop around the region, with a red line just outside of it. RequestError for an empty region."""
    _require_pixels(mask)
    top, bottom, left, right = _crop_around(mask)
    crop, inside = picture[top:bottom, left:right].copy(), mask[top:bottom, left:right].astype(np.uint8)
    width = max(2, round(max(crop.shape[:2]) * _LINE_SHARE))
    around = cv2.dilate(inside, np.ones((2 * width + 1,) * 2, np.uint8)) > inside
    crop[around] = _OUTLINE_RGB
    return crop


def outlined_question(question: str) -> str:
    """A question about region1 as one about what is outlined."""
    of_mark = question.replace("marked by region1", f"marked by {_OUTLINE}")
    return of_mark.replace("region1", f"the region inside {_OUTLINE}")


def region_input(
    picture: Picture, mask: NDArray[np.bool_], grid: int, *, cell_share: float | None = None
) -> RegionInput:
    """The picture as it is, or cropped around a region that vanishes on the grid.

    `cell_share` is how much of one cell a region between the sample points must cover to be shown by that
    cell in the whole picture; None where the checkpoint never learnt from such cells. A crop makes small
    things look large. Raises RequestError for a region without a pixel.
    """
    _require_pixels(mask)
    cells = region_cells(mask, grid)
    if len(cells):
        return RegionInput(picture, cells, cropped=False)
    fullest, share = fullest_cell(mask, grid)
    if cell_share is not None and share >= cell_share:
        return RegionInput(picture, np.asarray([fullest], np.int64), cropped=False)
    top, bottom, left, right = _crop_around(mask)
    cropped = mask[top:bottom, left:right]
    cells = region_cells(cropped, grid)
    if not len(cells):
        # Thinner than a sample step even when cropped: the cell under its middle.
        ys, xs = np.nonzero(cropped)
        middle = int(ys.mean() * grid / cropped.shape[0]) * grid + int(xs.mean() * grid / cropped.shape[1])
        cells = np.asarray([middle], np.int64)
    return RegionInput(np.ascontiguousarray(picture[top:bottom, left:right]), cells, cropped=True)


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


def _crop_around(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    ys, xs = np.nonzero(mask)
    height, width = mask.shape
    longest = max(int(np.ptp(ys)), int(np.ptp(xs))) + 1
    side = max(int(longest / _RESCUE_SHARE), 8)
    side_y, side_x = min(side, height), min(side, width)
    top = int(np.clip((ys.min() + ys.max()) // 2 - side_y // 2, 0, height - side_y))
    left = int(np.clip((xs.min() + xs.max()) // 2 - side_x // 2, 0, width - side_x))
    return top, top + side_y, left, left + side_x
