"""Contact sheets: several frames in one picture of bounded size, each with a caption, and legends.

Masks are drawn after the frames are resized for the sheet, so that outlines and numbers are readable for
small and large sources. Knows nothing of handles or image files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.errors import RequestError
from sa2va_tools.masks.draw import NumberedMask, draw_masks
from sa2va_tools.masks.palette import draw_badge, draw_text_strip
from sa2va_tools.run import Run, raise_if_cancelled
from sa2va_tools.wording import argument

MIN_SHOWN_SIDE = 320
"""Smaller frames are enlarged until their shorter side has this many pixels, if there is room."""
_MAX_ENLARGE = 8.0
_GAP = 4
_PAPER = 32
_CAPTION_PX = 20
_LEGEND_ROW_PX = 26


@dataclass(frozen=True, slots=True)
class _Grid:
    columns: int
    rows: int
    tile_wh: tuple[int, int]
    scale: float


def draw_contact_sheet(
    frames: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    max_side: int,
    *,
    objects: Sequence[Sequence[NumberedMask]] | None = None,
    enlarge_to: int = MIN_SHOWN_SIDE,
    run: Run | None = None,
) -> tuple[NDArray[np.uint8], float]:
    """Put all `frames` (h, w, 3; equal shapes) on one sheet in reading order, each above its caption (if all
    captions are empty, there is no room for them). Returns the sheet and the pixels shown per source pixel.

    Neither side of the sheet is larger than `max_side`. Smaller frames are enlarged until their shorter side
    has `enlarge_to` pixels, if there is room. `objects` has the masks of each frame, in the frame's own size.
    Raises ValueError for no frames or unequal shapes or lengths, RequestError if `max_side` leaves no pixel
    for a frame, CancelledError.
    """
    _check_lengths(frames, captions, objects)
    caption_px = _CAPTION_PX if any(captions) else 0
    height, width = frames[0].shape[:2]
    grid = _choose_grid(len(frames), (width, height), max_side, caption_px, enlarge_to)
    tile_w, tile_h = grid.tile_wh
    sheet_w = grid.columns * (tile_w + _GAP) - _GAP
    sheet_h = grid.rows * (tile_h + caption_px + _GAP) - _GAP
    sheet = np.full((sheet_h, sheet_w, 3), _PAPER, dtype=np.uint8)
    for index, frame in enumerate(frames):
        row, column = divmod(index, grid.columns)
        x = column * (tile_w + _GAP)
        y = row * (tile_h + caption_px + _GAP)
        masks = objects[index] if objects is not None else ()
        sheet[y : y + tile_h, x : x + tile_w] = _draw_tile(frame, masks, grid.tile_wh, run)
        if caption_px:
            strip = draw_text_strip(captions[index], (tile_w, caption_px))
            sheet[y + tile_h : y + tile_h + caption_px, x : x + tile_w] = strip
    return sheet, grid.scale


def draw_legend(entries: Sequence[tuple[int, str]], width_px: int) -> NDArray[np.uint8]:
    """One row per (number, label): the badge as in the picture, then the label. Returns (h, width_px, 3)."""
    strip = np.zeros((_LEGEND_ROW_PX * len(entries), width_px, 3), dtype=np.uint8)
    badge_px = _LEGEND_ROW_PX - 4
    indent = 3 * badge_px
    for row, (number, label) in enumerate(entries):
        top = row * _LEGEND_ROW_PX
        if width_px > indent:
            text = draw_text_strip(label, (width_px - indent, _LEGEND_ROW_PX))
            strip[top : top + _LEGEND_ROW_PX, indent:] = text
        draw_badge(strip, number, (2, top + 2), badge_px)
    return strip


def _check_lengths(
    frames: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    objects: Sequence[Sequence[NumberedMask]] | None,
) -> None:
    if not frames:
        raise ValueError("frames: expected at least one, got none")
    if len(captions) != len(frames) or (objects is not None and len(objects) != len(frames)):
        raise ValueError(f"captions, objects: expected {len(frames)} entries, one per frame")
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        raise ValueError(f"frames: expected equal shapes, got {sorted(shapes)}")


def _choose_grid(
    count: int, size_wh: tuple[int, int], max_side: int, caption_px: int, enlarge_to: int
) -> _Grid:
    """The number of columns that makes the frames largest; of equals, the sheet that is closest to square."""
    width, height = size_wh
    ceiling = min(_MAX_ENLARGE, max(1.0, enlarge_to / min(width, height)))
    best: _Grid | None = None
    best_key = (0.0, 0.0)
    for columns in range(1, count + 1):
        rows = ceil(count / columns)
        room_w = (max_side + _GAP) / columns - _GAP
        room_h = (max_side + _GAP) / rows - _GAP - caption_px
        scale = min(room_w / width, room_h / height, ceiling)
        if min(room_w, room_h) < 1:
            continue
        # A very long and thin picture keeps at least one pixel across.
        tile_wh = (max(1, int(width * scale)), max(1, int(height * scale)))
        squareness = -abs(columns * (tile_wh[0] + _GAP) - rows * (tile_wh[1] + caption_px + _GAP))
        if best is None or (scale, squareness) > best_key:
            best = _Grid(columns, rows, tile_wh, scale)
            best_key = (scale, squareness)
    if best is None:
        raise RequestError(
            f"{max_side} pixels are too few for {count} frame(s) of {width}×{height}.",
            hint=f"Use fewer frames or a larger {argument('max_side')}.",
        )
    return best


def _draw_tile(
    frame: NDArray[np.uint8],
    masks: Sequence[NumberedMask],
    tile_wh: tuple[int, int],
    run: Run | None,
) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    if (width, height) == tile_wh:
        return draw_masks(frame, masks, run=run)
    shrinks = tile_wh[0] < width
    shown = cv2.resize(frame, tile_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    small = []
    for number, mask in masks:
        raise_if_cancelled(run)
        small.append((number, _resize_mask(mask, tile_wh)))
    return draw_masks(shown.astype(np.uint8), small, run=run)


def _resize_mask(mask_hw: NDArray[np.bool_], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize bilinearly and cut at one half. A mask too thin for that keeps every pixel that it touches."""
    shrinks = size_wh[0] < mask_hw.shape[1]
    soft = cv2.resize(
        mask_hw.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    hard: NDArray[np.bool_] = soft >= 0.5
    return hard if hard.any() else soft > 0
