"""J, F and J&F of an object's masks in a clip, as the DAVIS 2017 evaluation defines them.

MeViS and Ref-DAVIS take the same two measures over all frames of every expression, then the mean of J and F.
It knows nothing of models, files or several objects: one call scores one object (or one expression).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.evaluation.metrics import Mask, region_similarity

TOLERANCE = 0.008
"""DAVIS' share of the frame's diagonal by which a boundary may be off."""


@dataclass(frozen=True, slots=True)
class TrackScore:
    """J (region) and F (boundary) of one object in one clip, each in 0…1."""

    j: float
    f: float

    @property
    def j_and_f(self) -> float:
        """The mean of the two; a benchmark's J&F is the mean of this over objects or expressions."""
        return (self.j + self.f) / 2


def boundary_measure(ours_hw: Mask, theirs_hw: Mask, *, tolerance: float = TOLERANCE) -> float:
    """F of two (height, width) masks: the harmonic mean of their boundaries' precision and recall, 0…1.

    A boundary pixel is right if one of the other mask's boundary is no further away than the tolerance: that
    share of the frame's diagonal, rounded up to whole pixels, or that many pixels if it is 1 or more. Two
    masks without a boundary agree (1), one without and one with do not (0). A mask that fills the frame has
    no boundary: the frame's own edge is none.

    ValueError for different shapes, another number of axes, another dtype than bool or a negative tolerance.
    """
    if ours_hw.shape != theirs_hw.shape or ours_hw.ndim != 2:
        raise ValueError(f"masks must be of one shape (height, width): {ours_hw.shape}, {theirs_hw.shape}")
    if tolerance < 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    ours, theirs = _boundary(ours_hw), _boundary(theirs_hw)
    if not ours.any() or not theirs.any():
        return float(not ours.any() and not theirs.any())
    radius = math.ceil(tolerance if tolerance >= 1 else tolerance * math.hypot(*ours_hw.shape))
    # Pixels outside of the boundaries' common box are never asked for, and a dilation needs none of them.
    x, y, width, height = cv2.boundingRect(ours | theirs)
    window = np.s_[y : y + height, x : x + width]
    precision = _share_near(ours[window], theirs[window], radius)
    recall = _share_near(theirs[window], ours[window], radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_similarity(ours_thw: Mask, theirs_thw: Mask, *, tolerance: float = TOLERANCE) -> float:
    """F of one object in one clip: the mean over frames of `boundary_measure` of (T, height, width) masks.

    ValueError for different shapes, no frame or another dtype than bool.
    """
    if ours_thw.shape != theirs_thw.shape or ours_thw.ndim != 3 or not len(ours_thw):
        raise ValueError(f"clips must be of one shape with a frame: {ours_thw.shape}, {theirs_thw.shape}")
    frames = zip(ours_thw, theirs_thw, strict=True)
    return float(np.mean([boundary_measure(ours, theirs, tolerance=tolerance) for ours, theirs in frames]))


def track_quality(ours_thw: Mask, theirs_thw: Mask, *, inner_frames_only: bool = False) -> TrackScore:
    """J and F of one object's (T, height, width) masks.

    `inner_frames_only` leaves out the first and the last frame, as davis2017-evaluation does for the
    semi-supervised task, where the first is given; the referring benchmarks (MeViS, Ref-YouTube-VOS,
    Ref-DAVIS) take all. ValueError for different shapes, another dtype than bool or no frame that counts.
    """
    if inner_frames_only:
        ours_thw, theirs_thw = ours_thw[1:-1], theirs_thw[1:-1]
    return TrackScore(region_similarity(ours_thw, theirs_thw), boundary_similarity(ours_thw, theirs_thw))


def _boundary(mask_hw: Mask) -> NDArray[np.uint8]:
    """1 where a pixel differs from its neighbour to the right, below, or diagonally below to the right.

    At the last row and column the missing neighbours are taken to be like the pixel's own row or column.
    """
    if mask_hw.dtype != np.bool_:
        raise ValueError(f"masks: expected bool, got {mask_hw.dtype}")
    padded = np.pad(mask_hw, ((0, 1), (0, 1)), mode="edge") if mask_hw.size else mask_hw
    here = padded[:-1, :-1]
    differs = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return differs.astype(np.uint8)


def _share_near(boundary: NDArray[np.uint8], other: NDArray[np.uint8], radius: int) -> float:
    """The share of the boundary's pixels with one of the other's within the radius."""
    reach = cv2.dilate(other, _disk(radius))
    return np.count_nonzero(boundary & reach) / np.count_nonzero(boundary)


def _disk(radius: int) -> NDArray[np.uint8]:
    """All pixels whose centres are at most `radius` away; OpenCV's ellipse is not that."""
    steps = np.arange(-radius, radius + 1)
    return (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
