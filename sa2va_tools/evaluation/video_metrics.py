"""J, F and J&F of an object's masks in a clip, as the DAVIS 2017 evaluation defines them.

MeViS and Ref-DAVIS use the same two measures over all frames of every expression, and then the mean of J and
F. One call scores one object (or one expression).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.evaluation.metrics import Mask, mean, pair_frames, region_similarity

TOLERANCE = 0.008
"""How far a boundary may be off, as a share of the frame's diagonal (DAVIS)."""


@dataclass(frozen=True, slots=True)
class TrackScore:
    """J (region) and F (boundary) of one object in one clip, each in 0 … 1."""

    j: float
    f: float

    @property
    def j_and_f(self) -> float:
        """The mean of the two; a benchmark's J&F is the mean of this over objects or expressions."""
        return (self.j + self.f) / 2


def boundary_measure(predicted_hw: Mask, target_hw: Mask, *, tolerance: float = TOLERANCE) -> float:
    """F of two (height, width) masks: the harmonic mean of their boundaries' precision and recall, 0 … 1.

    A boundary pixel is right if a boundary pixel of the other mask lies within the tolerance. Below 1, the
    tolerance is a share of the frame's diagonal, rounded up to whole pixels; otherwise it is a number of
    pixels. Two masks without a boundary agree (1); one with and one without do not (0). A mask that fills the
    frame has no boundary, because the frame's own edge is none.

    ValueError if shapes differ, the masks do not have two axes or are not bool, or the tolerance is negative.
    """
    if predicted_hw.shape != target_hw.shape or predicted_hw.ndim != 2:
        raise ValueError(
            f"masks must have the same shape (height, width): {predicted_hw.shape}, {target_hw.shape}"
        )
    if tolerance < 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    predicted = _boundary(predicted_hw)
    target = _boundary(target_hw)
    if not predicted.any() or not target.any():
        return float(not predicted.any() and not target.any())
    radius = math.ceil(tolerance if tolerance >= 1 else tolerance * math.hypot(*predicted_hw.shape))
    # Only pixels inside the common bounding box of both boundaries matter, for the dilation as well.
    x, y, width, height = cv2.boundingRect(predicted | target)
    window = np.s_[y : y + height, x : x + width]
    precision = _share_near(predicted[window], target[window], radius)
    recall = _share_near(target[window], predicted[window], radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_similarity(predicted_thw: Mask, target_thw: Mask, *, tolerance: float = TOLERANCE) -> float:
    """F of one object in one clip: the mean over frames of `boundary_measure` of (T, height, width) masks.

    ValueError if shapes differ, there is no frame, or a mask is not bool.
    """
    frames = pair_frames(predicted_thw, target_thw)
    return mean([boundary_measure(*pair, tolerance=tolerance) for pair in frames])


def score_track(predicted_thw: Mask, target_thw: Mask, *, inner_frames_only: bool = False) -> TrackScore:
    """J and F of one object's (T, height, width) masks.

    `inner_frames_only` leaves out the first and the last frame, as davis2017-evaluation does for the
    semi-supervised task, where the first is given; the referring benchmarks (MeViS, Ref-YouTube-VOS,
    Ref-DAVIS) use all frames. ValueError if shapes differ, a mask is not bool, or no frame is left.
    """
    if inner_frames_only:
        predicted_thw = predicted_thw[1:-1]
        target_thw = target_thw[1:-1]
    region = region_similarity(predicted_thw, target_thw)
    return TrackScore(region, boundary_similarity(predicted_thw, target_thw))


def _boundary(mask_hw: Mask) -> NDArray[np.uint8]:
    """1 where a pixel differs from its neighbour to the right, below, or diagonally below to the right.

    In the last row and column, the missing neighbours are taken to equal the pixels of that row or column.
    """
    if mask_hw.dtype != np.bool_:
        raise ValueError(f"masks: expected bool, got {mask_hw.dtype}")
    padded = np.pad(mask_hw, ((0, 1), (0, 1)), mode="edge") if mask_hw.size else mask_hw
    here = padded[:-1, :-1]
    differs = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return differs.astype(np.uint8)


def _share_near(boundary: NDArray[np.uint8], other: NDArray[np.uint8], radius: int) -> float:
    """The share of the boundary's pixels that have a pixel of the other boundary within the radius."""
    steps = np.arange(-radius, radius + 1)
    # All pixels whose centres are at most `radius` away; OpenCV's ellipse is a different set.
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    return np.count_nonzero(boundary & cv2.dilate(other, disk)) / np.count_nonzero(boundary)
