"""A result that more objects are added to: what it was about, and what it holds already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.library import Library, Opened
from sa2va_tools.engine.protocol import Mode
from sa2va_tools.engine.results import MaskObject
from sa2va_tools.errors import RequestError
from sa2va_tools.masks.suspects import suspects
from sa2va_tools.model.output import MaskWishes
from sa2va_tools.progress import CancelToken


@dataclass(frozen=True, slots=True)
class Earlier:
    """An answer with masks, ready to be extended."""

    opened: Opened
    clip: Clip
    """The frames that its masks cover."""
    mode: Mode
    wishes: MaskWishes
    objects: tuple[MaskObject, ...]


def earlier_result(library: Library, handle: str, cancel: CancelToken | None) -> Earlier:
    """Raises UnknownHandleError; RequestError for an answer without masks, or about regions of a frame."""
    record = library.store.get_answer(handle)
    if record.kind not in ("segment", "ground", "track") or not record.mask_handles:
        raise RequestError(
            f"{handle} ({record.kind}) has no masks that objects could be added to.",
            hint="Give the answer of segment, ground or track; to begin anew, call segment.",
        )
    opened = library.open(handle, cancel)
    kept = [(name, library.mask(name, opened)) for name in record.mask_handles]
    clip = Clip(opened.media, kept[0][1].track.frame_indices, cancel)
    objects = tuple(
        MaskObject(
            label=mask.label,
            found=True,
            reason="",
            handle=name,
            track=mask.track,
            score=mask.score,
            suspects=suspects(mask.track),
            times_s=clip.times_of(mask.track.frame_indices),
        )
        for name, mask in kept
    )
    made = record.provenance
    mode = made.get("mode", "auto")
    return Earlier(
        opened,
        clip,
        cast(Mode, mode) if mode in get_args(Mode) else "auto",
        MaskWishes(
            made.get("gate_by_object_score", True), made.get("threshold", 0.5), made.get("smooth", False)
        ),
        objects,
    )
