"""Copies small mask logits to the CPU, enlarges them to masks of the video's size, and smooths on request.

Logits lie on a coarse grid, so enlarged outlines follow its cells and noise is a few cells wide. Smoothing
works at SAM-2's input size, where cells are square and few pixels wide whatever the size of the video. It
changes what is returned, never SAM-2's memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2va_tools.model.output import FrameMasks, MaskOptions
from sa2va_tools.model.sam2.modules import MaskPrediction
from sa2va_tools.run import Run

BLUR_CELLS = 0.5
"""Standard deviation of the blur in cells of the logit grid."""
REACH_CELLS = 0.5
"""The blur moves no outline farther than this many cells, up to rounding to a pixel of SAM-2's input."""
SPECK_SHARE = 0.01
"""Holes and specks are removed below this share of the object's area …"""
SPECK_CELLS = 16.0
"""… and below this many cells, because the small people of a crowd are not specks."""
_CLIP_LOGIT = 1.0
"""Only logits near zero tell where the edge is; larger ones would shift it when blurred."""
_MAX_THRESHOLD_LOGIT = 9.5
"""Given masks have logits of ±10, so no threshold empties or floods them."""


@dataclass(frozen=True, slots=True)
class PendingMasks:
    """Predictions of all objects on one frame, on their way to the CPU."""

    position: int
    size_hw: tuple[int, int]
    logits: Tensor
    """(N, l, l) float32"""
    object_logits: Tensor
    """(N,)"""
    copied: torch.cuda.Event | None = None
    """Recorded after the copy from a GPU; None if the tensors are on the CPU already."""

    @classmethod
    def start_copy(cls, position: int, prediction: MaskPrediction, size_hw: tuple[int, int]) -> PendingMasks:
        """Copy without waiting: a GPU goes on with the next frame meanwhile."""
        tensors = [prediction.logits.float(), prediction.object_logits.float()]
        if not prediction.logits.is_cuda:
            logits, object_logits = (each.cpu() for each in tensors)
            return cls(position, size_hw, logits, object_logits)
        # Only copies into pinned memory run asynchronously.
        logits, object_logits = (
            torch.empty_like(each, device="cpu", pin_memory=True).copy_(each, non_blocking=True)
            for each in tensors
        )
        copied = torch.cuda.current_stream(prediction.logits.device).record_event()
        return cls(position, size_hw, logits, object_logits, copied)

    def wait(self) -> None:
        """Until the copy is done."""
        if self.copied is not None:
            self.copied.synchronize()


def full_size_masks(pending: PendingMasks, image_size: int, options: MaskOptions, run: Run) -> FrameMasks:
    """Masks at the video's size, enlarged through SAM-2's input size (`image_size`) as upstream does. One
    object at a time, because full-size logits take four bytes a pixel and more. Raises CancelledError."""
    pending.wait()
    count = len(pending.logits)
    masks = np.empty((count, *pending.size_hw), np.bool_)
    scores = np.empty(count, np.float32)
    for number, logits in enumerate(pending.logits.numpy()):
        run.raise_if_cancelled()
        masks[number], scores[number] = make_mask(logits, image_size, pending.size_hw, options)
    return FrameMasks(pending.position, masks, torch.sigmoid(pending.object_logits).numpy(), scores)


def enlarge_logits(
    logits_ll: NDArray[np.float32], image_size: int, size_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(l, l) → (image_size, image_size) → (height, width), bilinear, as upstream does: one step gives other
    edges. OpenCV equals torch up to rounding, in a fifth of the time."""
    square = cv2.resize(logits_ll, (image_size, image_size), interpolation=cv2.INTER_LINEAR)
    full = cv2.resize(square, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(square, np.float32), np.asarray(full, np.float32)


def make_mask(
    logits_ll: NDArray[np.float32], image_size: int, size_hw: tuple[int, int], options: MaskOptions
) -> tuple[NDArray[np.bool_], float]:
    """The mask (height, width) where the probability is over the threshold, and the mean probability inside
    it (0 if it is empty). Smoothing never empties a mask."""
    square, full = enlarge_logits(logits_ll, image_size, size_hw)
    bar = math.log(options.threshold) - math.log1p(-options.threshold)  # exactly 0 for one half
    bar = max(-_MAX_THRESHOLD_LOGIT, min(_MAX_THRESHOLD_LOGIT, bar))
    mask = full > bar
    if options.smooth and mask.any():
        mask = _smooth(square - np.float32(bar), mask, logits_ll.shape[-1])
    inside = full[mask]
    return mask, float(np.mean(1 / (1 + np.exp(-inside)), dtype=np.float64)) if inside.size else 0.0


def _smooth(square: NDArray[np.float32], mask_hw: NDArray[np.bool_], grid_side: int) -> NDArray[np.bool_]:
    """The mask with an even outline and without small holes and specks. `square` is positive inside the mask,
    at SAM-2's input size."""
    height, width = mask_hw.shape
    cell = square.shape[0] / grid_side
    x, y, box_width, box_height = cv2.boundingRect((square > 0).view(np.uint8))
    pad = math.ceil(4 * BLUR_CELLS * cell)
    part = np.s_[max(y - pad, 0) : y + box_height + pad, max(x - pad, 0) : x + box_width + pad]
    square[part] = _even_out(square[part], cell)
    smoothed = cv2.resize(square, (width, height), interpolation=cv2.INTER_LINEAR) > 0
    if not smoothed.any():  # a small picture samples only some of the square's pixels
        return mask_hw
    _remove_holes_and_specks(smoothed, width * height / grid_side**2)
    return smoothed


def _even_out(margin: NDArray[np.float32], cell: float) -> NDArray[np.float32]:
    """Blur the map (positive inside the mask) by BLUR_CELLS; its zeros move by no more than REACH_CELLS."""
    clipped = np.clip(margin, -_CLIP_LOGIT, _CLIP_LOGIT)
    blurred = cv2.GaussianBlur(clipped, (0, 0), sigmaX=BLUR_CELLS * cell, borderType=cv2.BORDER_REPLICATE)
    shifted = np.asarray(blurred, np.float32) - _find_level(blurred, int((margin > 0).sum()))
    disc = _make_disc(REACH_CELLS * cell)
    # The minimum and the maximum within the reach are the map with its zeros moved inwards and outwards.
    return np.clip(shifted, cv2.erode(margin, disc), cv2.dilate(margin, disc))


def _find_level(blurred: NDArray[np.float32], area: int) -> np.float32:
    """The value that `area` pixels exceed. Cut at zero, convex shapes would shrink."""
    certain = 0.999 * _CLIP_LOGIT
    uncertain = blurred[np.abs(blurred) < certain]
    if not uncertain.size:
        return np.float32(0)
    rank = uncertain.size - 1 - (area - int((blurred >= certain).sum()))
    rank = max(0, min(uncertain.size - 1, rank))
    return np.float32(np.partition(uncertain, rank)[rank])


def _make_disc(radius: float) -> NDArray[np.uint8]:
    """A kernel of the pixels whose middles are within `radius` of the centre."""
    side = int(radius)
    y, x = np.ogrid[-side : side + 1, -side : side + 1]
    return (x**2 + y**2 <= radius**2).astype(np.uint8)


def _remove_holes_and_specks(mask_hw: NDArray[np.bool_], cell_area: float) -> None:
    """Fill small holes and drop small pieces, in place; the largest piece stays. Background that touches the
    edge of the frame is not a hole."""
    pixels = mask_hw.view(np.uint8)
    limit = min(SPECK_SHARE * int(mask_hw.sum()), SPECK_CELLS * cell_area)
    contours, hierarchy = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parents = hierarchy[0][:, 3]
    pieces = [number for number in range(len(contours)) if parents[number] < 0]
    largest = max(pieces, key=lambda number: cv2.contourArea(contours[number]))
    specks = {
        number
        for number in pieces
        if number != largest and _count_pixels(contours[number], is_hole=False) <= limit
    }
    # One by one: drawn together, contours within each other would cancel out.
    for number in specks:
        cv2.drawContours(pixels, [contours[number]], 0, 0, cv2.FILLED)
    for number, parent in enumerate(parents):
        is_hole = parent >= 0 and parent not in specks
        if is_hole and _count_pixels(contours[number], is_hole=True) <= limit:
            cv2.drawContours(pixels, [contours[number]], 0, 1, cv2.FILLED)


def _count_pixels(contour: NDArray[np.int32], *, is_hole: bool) -> float:
    """Pixels of a piece or hole, by Pick's theorem: contours run through the middles of border pixels."""
    border = len(contour) / 2
    return cv2.contourArea(contour) + 1 + (-border if is_hole else border)
