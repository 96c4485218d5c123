"""What the engine returns: frozen values, no torch, no pixels. Everything a front end shows is here.

Frame numbers are *source* frame indices (0-based, of the whole video), whatever range or stride
the call asked for; seconds are the source's timestamps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sa2va_tools.masks.suspects import Suspect
from sa2va_tools.masks.track import MaskTrack

_WISHES = frozenset({"gate_by_object_score", "threshold", "smooth"})


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a result came about; stored with it and shown with it."""

    checkpoint: str
    """Name or folder of the checkpoint."""
    revision: str
    """Short content hash of its weights."""
    family: str
    """`internvl+qwen2`, …"""
    mode: str
    """`sa2va` or `sa2va-i` for grounding on video; `image`, `text` or `chat` otherwise."""
    key_frames: tuple[int, ...]
    """Source frames that the language model saw."""
    frames: int
    """Frames that were propagated through (1 for an image, 0 where no mask was made)."""
    size_wh: tuple[int, int]
    device: str
    dtype: str
    version: str
    """Version of sa2va-tools."""
    timings_s: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True
    """False where the media breaks off, or has lost frames: masks are of the frames that are there."""
    encoder_passes: int | None = None
    """Frames that went through SAM-2's image encoder for this result: none that were kept from before. None
    where it was not counted."""
    relief: tuple[str, ...] = ()
    """What was done because memory ran short."""
    gate_by_object_score: bool = True
    threshold: float = 0.5
    smooth: bool = False
    """These three as the call asked for them."""

    def to_json(self) -> dict[str, Any]:
        """For the store. Wishes that the call did not have are left out: then handles do not depend on
        which wishes this version knows."""
        kept = asdict(self)
        for entry in fields(self):
            if entry.name in _WISHES and kept[entry.name] == entry.default:
                del kept[entry.name]
        return kept


@dataclass(frozen=True, slots=True)
class MediaRef:
    """What a result says of its image or video."""

    handle: str
    kind: str
    size_wh: tuple[int, int]
    frame_count: int
    fps: str | None
    """As a fraction, `30000/1001`; None for an image."""
    duration_s: float | None
    name: str
    """File name, for people."""


@dataclass(frozen=True, slots=True)
class MaskObject:
    """One thing that was asked for or spoken of: its mask, or why there is none."""

    label: str
    """The expression, phrase or region that it answers."""
    found: bool
    reason: str
    """Why it was not found; empty when it was."""
    handle: str | None
    """`mask:…`; None when there is no mask at all."""
    track: MaskTrack | None
    """The mask per frame; None when there is no mask at all."""
    score: float
    """Mean over the frames where it is seen of the object probability × the mean probability
    inside the mask; 0 … 1, 0 when not found."""
    phrase_span: tuple[int, int] | None = None
    """Characters of `AnswerResult.text` that this mask belongs to (grounded conversation)."""
    suspects: tuple[Suspect, ...] = ()
    """Source frames where the mask jumps in area, is lost, or fills the frame, with these reasons."""
    times_s: tuple[float, ...] = ()
    """Seconds of each covered frame of `track` by the source's own timestamps; empty for an image."""

    @property
    def suspect_frames(self) -> tuple[int, ...]:
        """The source frames of `suspects`."""
        return tuple(suspect.frame_index for suspect in self.suspects)


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """An answer in words, with the masks that it speaks of (if any)."""

    handle: str
    """`answer:…`"""
    media: MediaRef | None
    question: str
    text: str
    """Cleaned of `<p>`, `[SEG]` and stop tokens."""
    raw_text: str
    """As the model wrote it."""
    objects: tuple[MaskObject, ...]
    provenance: Provenance
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """Masks for one or several expressions, or the track of a region."""

    handle: str
    """`answer:…`: the whole result under one name."""
    media: MediaRef
    objects: tuple[MaskObject, ...]
    answers: tuple[str, ...]
    """What the model said, one per expression, cleaned; empty for `track`."""
    provenance: Provenance
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RegionCaption:
    """One region and what the model said of it."""

    region: MaskObject
    text: str


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """Descriptions of regions of one image or one frame."""

    handle: str
    media: MediaRef
    frame_index: int
    captions: tuple[RegionCaption, ...]
    provenance: Provenance
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ViewResult:
    """One picture and its legend (number → handle)."""

    image: bytes
    mime_type: str
    size_wh: tuple[int, int]
    legend: tuple[tuple[int, str, str], ...]
    """(number in the picture, handle, label), by number."""
    frames: tuple[int, ...]
    """Source frames shown, in reading order."""
    scale: float
    """Pixels of one shown frame per pixel of the source frame."""
    media: MediaRef
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Files that were written."""

    files: Mapping[str, str]
    """Kind (`overlay`, `masks_json`, `mask_pngs`, …) → path."""
