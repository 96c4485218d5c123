"""The border of the model: plain values and numpy arrays. Nothing above this imports torch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.errors import RequestError


class FrameSource(Protocol):
    """Frames of one clip by position (0 … n-1 within the clip, whatever the source's indices)."""

    def __len__(self) -> int: ...

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """RGB pictures (height, width, 3) at strictly increasing positions, streamed; fewer where the clip
        breaks off."""
        ...

    def key_of(self, position: int) -> Hashable | None:
        """The same for the same pixels, for ever; None where that is not known."""
        ...


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What the language model wrote, and one prompt embedding per `[SEG]` that it fed back."""

    text: str
    """With markup and the stop token."""
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    seg_prompts: NDArray[np.float32]
    """(n, C)"""
    truncated: bool
    """True when max_new_tokens ended it before a stop word."""


class RegionAnswer(NamedTuple):
    """What was said of a region, and how it was shown: by the region prompt that the checkpoint was trained
    with, by that prompt on a crop (the region was too small for the grid), or, where the checkpoint has no
    such prompt, as a crop with an outline around the region, which is an approximation."""

    answer: ModelAnswer
    shown: Literal["prompt", "crop", "outline"]


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """Masks of all objects on one frame."""

    position: int
    masks: NDArray[np.bool_]
    """(objects, height, width)"""
    object_scores: NDArray[np.float32]
    """(objects,) sigmoid of SAM-2's object score."""
    mask_scores: NDArray[np.float32]
    """(objects,) mean probability over the set pixels; 0 where none is set."""


@dataclass(frozen=True, slots=True)
class MaskWishes:
    """How the caller wants the masks. RequestError at birth where that cannot be.

    Threshold and smoothing shape only what leaves: memory and propagation do not see them.
    """

    gate: bool = True
    """False keeps masks of negative object score where the mode or the checkpoint would empty them."""
    threshold: float = 0.5
    """A pixel is set where its probability is larger; between 0 and 1."""
    smooth: bool = False
    """Even edges, no small holes or specks; see `model/finishing.py`."""

    def __post_init__(self) -> None:
        if not (isinstance(self.threshold, Real) and 0 < self.threshold < 1):
            raise RequestError(
                f"The threshold is {self.threshold!r}; it must lie between 0 and 1, and be neither.",
                hint="0.5 is the model's own; a larger one gives tighter masks, a smaller one looser masks.",
            )


USUAL_WISHES = MaskWishes()


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """Points on one frame, in fractions of width and height (0 … 1).

    `labels`: 1 inside, 0 outside; a box is two points labelled 2 (top left) and 3 (bottom right).
    """

    points_xy: tuple[tuple[float, float], ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Where a model runs."""

    device: str
    dtype: str
    name: str
