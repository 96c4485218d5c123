"""What the engine returns: frozen values. Pixels are decoded only when they are asked for.

Frame numbers are *source* frame indices (0-based, of the whole video), whatever range or stride the call
asked for; seconds are the source's timestamps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sa2va_tools.engine.mask_access import MaskCollection
from sa2va_tools.engine.mask_object import MaskObject, MediaRef

if TYPE_CHECKING:
    from sa2va_tools.media.media import Media

ResultKind = Literal["describe", "segment", "ground", "caption", "track"]
"""Which call made a result."""
_MASK_OPTIONS = frozenset({"gate_by_object_score", "threshold", "smooth"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How a result was made; stored and shown with it."""

    checkpoint: str
    """Name or folder of the checkpoint."""
    revision: str
    """Short content hash of its weights."""
    family: str
    """`internvl+qwen2`, …"""
    mode: str
    """`sa2va` or `sa2va-i` for masks on video; otherwise `image`, `chat` or `track`."""
    llm_frames: tuple[int, ...]
    """Source frames that the language model saw."""
    prompt_frames: tuple[int, ...] = ()
    """Source frames on which the masks begin; all others are tracked from them."""
    frames: int
    """Frames that have masks (1 for an image, 0 if no mask was made)."""
    size_wh: tuple[int, int]
    device: str
    dtype: str
    version: str
    """Version of sa2va-tools."""
    timings_s: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True
    """False if the media breaks off or has lost frames: masks are of the frames that could be decoded."""
    encoder_passes: int | None = None
    """Frames that SAM-2 encoded for this result; cached frames do not count. None if unknown."""
    memory_fallbacks: tuple[str, ...] = ()
    """What was done because memory ran short."""
    gate_by_object_score: bool = True
    threshold: float = 0.5
    smooth: bool = False
    """These three as the call asked for them."""

    def to_json(self) -> dict[str, Any]:
        """For the store. Mask options with their default value are left out, so that handles do not depend on
        which options this version has."""
        values = asdict(self)
        for entry in fields(self):
            if entry.name in _MASK_OPTIONS and values[entry.name] == entry.default:
                del values[entry.name]
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskResult(MaskCollection):
    """What all results with masks have. See `MaskCollection` for pixels, boxes, files and conversions."""

    handle: str
    """`answer:…`: the whole result under one name."""
    media: MediaRef
    objects: tuple[MaskObject, ...] = ()
    provenance: Provenance
    warnings: tuple[str, ...] = ()
    source: Media | None = field(default=None, repr=False, compare=False)
    """The opened media, for `save`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentResult(MaskResult):
    """Masks for one or several expressions, or the tracks of regions."""

    answers: tuple[str, ...] = ()
    """What the model said, one per expression, without markup; empty for `track`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerResult(MaskResult):
    """An answer in words, with the masks of the things it mentions (if any)."""

    question: str
    text: str
    """Without `<p>`, `[SEG]` and stop tokens."""
    raw_text: str
    """As the model wrote it."""


@dataclass(frozen=True, slots=True)
class RegionCaption:
    """One region and what the model said about it."""

    region: MaskObject
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionResult:
    """Descriptions of regions of one image or one frame."""

    handle: str
    media: MediaRef
    frame_index: int
    captions: tuple[RegionCaption, ...]
    provenance: Provenance
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewResult:
    """One picture and its legend."""

    image: bytes
    mime_type: str
    size_wh: tuple[int, int]
    legend: tuple[tuple[int, str, str], ...]
    """(number in the picture, handle, label), by number."""
    frames: tuple[int, ...]
    """Source frames shown, in reading order."""
    scale: float
    """Pixels of one shown frame per pixel of the source frame."""
    shown_wh: tuple[int, int]
    """Source pixels that each shown frame covers: all of them, unless it is cropped."""
    origins_xy: tuple[tuple[int, int], ...]
    """Of each shown frame, the source pixel in its top left corner. The source's x of a place in it is
    `origin_x + place_x / scale`."""
    media: MediaRef
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    """The picture as a file in the store, if that was asked for (`keep`)."""
