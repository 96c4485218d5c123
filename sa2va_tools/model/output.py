"""The boundary of the model: plain values and numpy arrays. No room above the model imports torch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.checks import show_value
from sa2va_tools.errors import RequestError
from sa2va_tools.wording import argument


class FrameSource(Protocol):
    """Frames of one clip by position (0 … n-1 within the clip, whatever the source's indices are)."""

    def __len__(self) -> int: ...

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """RGB pictures (height, width, 3) at increasing positions, streamed; fewer if the clip breaks off."""

    def cache_key(self, position: int) -> Hashable | None:
        """Equal for equal pixels, across calls; None if that is unknown."""


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What the language model wrote, and one prompt embedding for each `[SEG]` that was fed back."""

    text: str
    """Includes markup and the stop token."""
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    seg_prompts: NDArray[np.float32]
    """(n, C)"""
    truncated: bool
    """True if max_new_tokens ended the answer before a stop word."""


class RegionAnswer(NamedTuple):
    """What was said about a region, and how the region was shown to the model."""

    answer: ModelAnswer
    shown_as: Literal["prompt", "crop", "outline"]
    """`prompt`: the region prompt that the checkpoint was trained with; `crop`: that prompt on a crop,
    because the region was too small for the grid; `outline`: a crop with an outline, an approximation for
    checkpoints without region prompts."""


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """Masks of all objects on one frame."""

    position: int
    masks: NDArray[np.bool_]
    """(objects, height, width)"""
    object_scores: NDArray[np.float32]
    """(objects,) sigmoid of SAM-2's object score."""
    mask_scores: NDArray[np.float32]
    """(objects,) mean probability over the set pixels; 0 if none is set."""


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Which masks are returned, and how they are shaped. RequestError if a value is impossible.

    They do not affect tracking: memory and key frames see the model's own masks.
    """

    threshold: float = 0.5
    """A pixel is set if its probability is larger; between 0 and 1."""
    smooth: bool = False
    """Even out edges, fill small holes, drop specks."""
    gate_by_object_score: bool = True
    """Empty a mask if the model takes the object to be absent; False keeps such masks."""

    def __post_init__(self) -> None:
        if not (isinstance(self.threshold, Real) and 0 < self.threshold < 1):
            raise RequestError(
                f"{argument('threshold')} is {show_value(self.threshold)}; it must be a number between 0 "
                "and 1, both excluded.",
                hint="0.5 is the model's own; larger values give tighter masks, smaller ones looser masks.",
            )


DEFAULT_MASK_OPTIONS = MaskOptions()


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """Points on one frame, in fractions of width and height (0 … 1).

    `labels`: 1 inside, 0 outside; a box is two points labelled 2 (top left) and 3 (bottom right).
    """

    points_xy: tuple[tuple[float, float], ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Where a model runs."""

    device: str
    dtype: str
    name: str
