"""One object's mask over the frames of one image or video. Knows nothing of files or handles."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.checks import check_whole_number
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle
from sa2va_tools.masks.packed import PackedRles
from sa2va_tools.masks.rle import Rle

_SCORE_SLACK = 1e-6  # a float32 mean of ones may land just above 1


@dataclass(frozen=True, slots=True)
class MaskTrack:
    """Per-frame masks of one object; an image is a track of one frame.

    All sequences have one entry per covered frame. Frames that are not covered (outside the range, or
    skipped by the stride) are unknown, not empty. The constructor raises ValueError if the fields do not fit
    each other.
    """

    size_wh: tuple[int, int]
    frame_indices: tuple[int, ...]
    """Source frame indices, strictly increasing."""
    rles: Sequence[Rle]
    """COCO compressed RLE, `{"size": [h, w], "counts": str}`; an empty mask is an RLE of area 0. Any sequence
    may be given; it is stored packed."""
    object_scores: tuple[float, ...]
    """Sigmoid of SAM-2's object score, 0 … 1: is the object in this frame?"""
    mask_scores: tuple[float, ...]
    """Mean mask probability over the pixels that are set, 0 … 1; 0 if none is set."""

    def __post_init__(self) -> None:
        self._check_lengths()
        if self.frame_indices[0] < 0 or any(a >= b for a, b in pairwise(self.frame_indices)):
            raise ValueError(f"frame_indices: expected 0 ≤ strictly increasing, got {self.frame_indices}")
        object.__setattr__(self, "rles", PackedRles.pack(self.size_wh, self.rles, self.frame_indices))
        for name in ("object_scores", "mask_scores"):
            for score in getattr(self, name):
                if not -_SCORE_SLACK <= score <= 1 + _SCORE_SLACK:
                    raise ValueError(f"{name}: expected 0 … 1, got {score}")

    def replace_mask(self, frame_index: int, mask: Rle) -> MaskTrack:
        """The track with another mask on a covered frame, all of whose pixels are certain."""
        at = self.frame_indices.index(frame_index)
        scores = list(self.mask_scores)
        scores[at] = float(rle.area(mask) > 0)
        return replace(self, rles=self._packed.replace(at, mask), mask_scores=tuple(scores))

    def _check_lengths(self) -> None:
        expected = len(self.frame_indices)
        if expected == 0:
            raise ValueError("frame_indices: expected at least one covered frame, got none")
        for name in ("rles", "object_scores", "mask_scores"):
            if len(getattr(self, name)) != expected:
                raise ValueError(
                    f"{name}: expected {expected} entries, one per frame index, "
                    f"got {len(getattr(self, name))}"
                )

    def __len__(self) -> int:
        """The number of covered frames."""
        return len(self.frame_indices)

    def covers(self, frame_index: int) -> bool:
        """Whether this source frame was searched. TypeError if it is not a whole number."""
        frame_index = check_whole_number("frame_index", frame_index)
        position = bisect_left(self.frame_indices, frame_index)
        return position < len(self) and self.frame_indices[position] == frame_index

    def position(self, frame_index: int) -> int:
        """The index of this source frame in the sequences. RequestError if it is not covered."""
        if not self.covers(frame_index):
            first = self.frame_indices[0]
            last = self.frame_indices[-1]
            raise RequestError(
                f"This mask has no data for frame {frame_index}; it covers {len(self)} frame(s) from {first} "
                f"to {last}.",
                hint=f"The nearest frame that it covers is {self.nearest(frame_index)}.",
            )
        return bisect_left(self.frame_indices, int(frame_index))

    def nearest(self, frame_index: int) -> int:
        """The covered source frame closest to this one; the earlier of two."""
        frame_index = check_whole_number("frame_index", frame_index)
        return min(self.frame_indices, key=lambda covered: (abs(covered - frame_index), covered))

    def at(self, frame_index: int) -> Rle:
        """The RLE at a source frame. RequestError if it is not covered."""
        return self.rles[self.position(frame_index)]

    def mask(self, frame_index: int) -> NDArray[np.bool_]:
        """The mask (h, w) at a source frame, bool. RequestError if it is not covered."""
        return rle.decode(self.at(frame_index))

    def area(self, frame_index: int) -> int:
        """The number of set pixels at a source frame. RequestError if it is not covered."""
        return rle.area(self.at(frame_index))

    def score(self, frame_index: int) -> float:
        """Object score × mask score at a source frame, 0 … 1. RequestError if it is not covered."""
        at = self.position(frame_index)
        return self.object_scores[at] * self.mask_scores[at]

    def iter_counts(self) -> Iterator[str]:
        """The `counts` of each covered frame's RLE."""
        return self._packed.iter_counts()

    @property
    def areas(self) -> tuple[int, ...]:
        """The number of set pixels of each covered frame."""
        return self._packed.areas

    @property
    def visible(self) -> tuple[int, ...]:
        """Source frames with at least one set pixel."""
        return tuple(
            frame_index for frame_index, area in zip(self.frame_indices, self.areas, strict=True) if area
        )

    @property
    def largest_frame(self) -> int:
        """The source frame where the mask is largest; the first of equals."""
        areas = self.areas
        return self.frame_indices[areas.index(max(areas))]

    @property
    def _packed(self) -> PackedRles:
        return PackedRles.pack(self.size_wh, self.rles)  # they are packed already: see __post_init__
