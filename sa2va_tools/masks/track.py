"""One object's mask over the frames of one image or video."""

from __future__ import annotations

from dataclasses import dataclass

from sa2va_tools.masks.rle import Rle


@dataclass(frozen=True, slots=True)
class MaskTrack:
    """Per-frame masks of one object; an image is a track of one frame.

    All tuples have one entry per covered frame. Frames that are not covered (outside the range, or
    skipped by the stride) are unknown, not empty.
    """

    size_wh: tuple[int, int]
    frame_indices: tuple[int, ...]
    """Source frame indices, strictly increasing."""
    rles: tuple[Rle, ...]
    """COCO compressed RLE, `{"size": [h, w], "counts": str}`; an empty mask is an RLE of area 0."""
    object_scores: tuple[float, ...]
    """Sigmoid of SAM-2's object score, 0 … 1: is the object in this frame?"""
    mask_scores: tuple[float, ...]
    """Mean mask probability over the pixels that are set, 0 … 1; 0 where none is set."""
