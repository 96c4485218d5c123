"""A stored result that more objects are added to: what it was about, and what it contains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.frame_plan import FramePlan, plan_masks
from sa2va_tools.engine.library import Library, OpenedMedia
from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.engine.options import Mode, SegmentOptions
from sa2va_tools.engine.requests import Expressions
from sa2va_tools.engine.results import Provenance
from sa2va_tools.errors import RequestError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.run import Run
from sa2va_tools.store.records import ExtensionRecord
from sa2va_tools.wording import call


@dataclass(frozen=True, slots=True)
class PreviousResult:
    """An answer about masks, ready to be extended."""

    opened: OpenedMedia
    clip: Clip
    """The frames that its masks cover, or would cover."""
    options: SegmentOptions
    objects: tuple[MaskObject, ...]
    provenance: Mapping[str, Any]
    extension: ExtensionRecord | None
    """The frames of its plan, and its expressions with their answers; None for a track."""
    raw_text: str = ""
    """The model's own text of these answers."""
    labels: tuple[str, ...] = ()
    """What its masks are of, as the question of the whole result."""

    @property
    def answers(self) -> tuple[tuple[str, str], ...]:
        """Expressions, and what was answered to each."""
        return () if self.extension is None else self.extension.answers

    @property
    def is_complete(self) -> bool:
        return bool(self.provenance.get("complete", True))

    def plan(self, config: Sa2vaConfig, clip: Clip) -> FramePlan:
        """The same frames as before; the usual ones if it had no plan (a tracked region)."""
        usual = plan_masks(config, clip, self.options)
        if self.extension is None:
            return usual
        llm = clip.find_positions(self.extension.llm_frames) or usual.llm_positions
        prompt = clip.find_positions(self.extension.prompt_frames) or usual.prompt_positions
        return replace(usual, prompt_positions=prompt).with_llm_positions(llm, clip)

    def merge_provenance(self, new: Provenance) -> Provenance:
        """The provenance of the whole result."""
        return replace(new, complete=new.complete and self.is_complete, frames=new.frames or len(self.clip))

    def select_new(self, expressions: Expressions) -> Expressions:
        """The expressions that are new, with a warning for the others. RequestError if none is."""
        known = {expression for expression, _ in self.answers} | {item.label for item in self.objects}
        new = tuple(text for text in expressions.texts if text not in known)
        if not new:
            raise RequestError(
                "That result already contains all of these expressions.", hint="Give other expressions."
            )
        repeated = [text for text in expressions.texts if text in known]
        notes = [f'"{text}" is already part of the result; it was not asked for again.' for text in repeated]
        return Expressions(new, (*expressions.warnings, *notes))

    def warn_about_differences(self, revision: str) -> list[str]:
        """Warnings about how the previous masks differ from new ones."""
        warnings = []
        if self.provenance.get("revision") != revision:
            warnings.append(
                f"The earlier masks were made by {self.provenance.get('checkpoint')} (revision "
                f"{self.provenance.get('revision')}), not by the model that made the new ones."
            )
        if not self.is_complete:
            warnings.append("The earlier result does not cover the whole range, so neither does this one.")
        return warnings


def make_extension(
    plan: FramePlan,
    clip: Clip,
    objects: Sequence[MaskObject],
    answers: Sequence[tuple[str, str]] = (),
) -> ExtensionRecord:
    """What a record stores so that objects can be added later by the same plan."""
    missing = tuple((at, item.label, item.reason) for at, item in enumerate(objects) if not item.found)
    has_masks = len(missing) < len(objects)
    return ExtensionRecord(
        llm_frames=clip.source_frames(plan.llm_positions),
        prompt_frames=clip.source_frames(plan.prompt_positions),
        frames=() if has_masks else clip.frame_indices,
        answers=tuple(answers),
        missing=missing,
    )


def load_previous_result(library: Library, handle: str, run: Run) -> PreviousResult:
    """UnknownHandleError; RequestError for an answer that is not about masks, or about regions of a frame."""
    record = library.store.get_answer(handle)
    extension = record.extension
    if record.kind not in ("segment", "ground", "track") or not (record.mask_handles or extension):
        raise RequestError(
            f"{handle} ({record.kind}) has no masks to which objects could be added.",
            hint=f"Give the answer handle of {call('segment')}, {call('ground')} or {call('track')}.",
        )
    opened = library.open(handle, run)
    masks = [(name, library.mask(name, opened, run)) for name in record.mask_handles]
    frames = masks[0][1].track.frame_indices if masks else extension.frames if extension else ()
    clip = Clip(opened.media, frames, run)
    objects = [
        MaskObject.from_record(name, mask, clip.times_s(mask.track.frame_indices)) for name, mask in masks
    ]
    for at, label, reason in extension.missing if extension else ():
        objects.insert(at, MaskObject.missing(label, opened.ref.size_wh, reason))
    was_segmented = record.kind == "segment"
    return PreviousResult(
        opened=opened,
        clip=clip,
        options=_read_options(record.provenance),
        objects=tuple(objects),
        provenance=record.provenance,
        extension=extension,
        raw_text=record.raw_text if extension and extension.answers else "",
        labels=tuple(record.question.split("\n") if was_segmented else (item.label for item in objects)),
    )


def _read_options(provenance: Mapping[str, Any]) -> SegmentOptions:
    """The options of the call that made a result; fields that had their default are not stored."""
    mode = provenance.get("mode", "auto")
    stored = {
        name: provenance[name]
        for name in ("threshold", "smooth", "gate_by_object_score")
        if name in provenance
    }
    return SegmentOptions(mode=cast(Mode, mode) if mode in get_args(Mode) else "auto", **stored)
