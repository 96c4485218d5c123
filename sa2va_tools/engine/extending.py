"""A result that more objects are added to: what it was about, and what it holds already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.key_frames import FramePlan, plan_grounding, with_seen
from sa2va_tools.engine.library import Library, Opened
from sa2va_tools.engine.protocol import Mode
from sa2va_tools.engine.recording import not_found
from sa2va_tools.engine.results import MaskObject
from sa2va_tools.errors import RequestError
from sa2va_tools.masks.suspects import suspects
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.output import MaskWishes
from sa2va_tools.progress import CancelToken

_PLAN, _ASKED, _MISSED = "plan", "asked", "missed"


def remembered(
    plan: FramePlan,
    clip: Clip,
    objects: Sequence[MaskObject],
    asked: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """What a record keeps, besides masks, so that objects can join by the same plan (in source frames): those
    that were not found, by their place among `objects`, and each expression that was `asked` with the answer
    to it."""
    kept: dict[str, Any] = {
        _PLAN: {"seen": list(clip.sources(plan.seen)), "keys": list(clip.sources(plan.keys))},
        _ASKED: [list(pair) for pair in asked],
        _MISSED: [[at, item.label, item.reason] for at, item in enumerate(objects) if not item.found],
    }
    if len(kept[_MISSED]) == len(objects):
        kept[_PLAN]["frames"] = list(clip.frame_indices)  # else those of the masks
    return kept


@dataclass(frozen=True, slots=True)
class Earlier:
    """An answer about masks, ready to be extended."""

    opened: Opened
    clip: Clip
    """The frames that its masks cover, or would."""
    wishes: MaskWishes
    objects: tuple[MaskObject, ...]
    provenance: Mapping[str, Any]
    kept_plan: Mapping[str, list[int]]
    asked: tuple[tuple[str, str], ...] = ()
    """Expressions, and what was answered to each."""
    raw_text: str = ""
    """Of those answers."""
    labels: tuple[str, ...] = ()
    """What its masks are of, as the question of a result that has them all."""

    @property
    def mode(self) -> Mode:
        mode = self.provenance.get("mode", "auto")
        return cast(Mode, mode) if mode in get_args(Mode) else "auto"

    @property
    def complete(self) -> bool:
        return bool(self.provenance.get("complete", True))

    def plan(self, config: Sa2vaConfig) -> FramePlan:
        """That of the answer; the usual one where it had none (a tracked region)."""
        usual = plan_grounding(config, self.clip, self.mode, None)
        if not self.kept_plan:
            return usual
        position_of = {frame: position for position, frame in enumerate(self.clip.frame_indices)}
        seen, keys = (
            tuple(position_of[frame] for frame in self.kept_plan[name] if frame in position_of)
            for name in ("seen", "keys")
        )
        return with_seen(replace(usual, keys=keys or usual.keys), self.clip, seen or usual.seen)

    def lacking(self, expressions: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those that were not asked before, and the others. RequestError where there is nothing to add."""
        there = {expression for expression, _ in self.asked} | {item.label for item in self.objects}
        known = [each for each in expressions if each in there]
        if len(known) == len(expressions):
            raise RequestError(
                "Everything that was asked for is in that result already.", hint="Ask for something else."
            )
        return [each for each in expressions if each not in there], known

    def doubts(self, revision: str) -> list[str]:
        """Warnings: what the masks that are there have not in common with those that join."""
        said = []
        if self.provenance.get("revision") != revision:
            said.append(
                f"The earlier masks were made by {self.provenance.get('checkpoint')} "
                f"(revision {self.provenance.get('revision')}), not by the model that made the new ones."
            )
        if not self.complete:
            said.append("The earlier result covers only a part of its range; so does this one.")
        return said


def earlier_result(library: Library, handle: str, cancel: CancelToken | None) -> Earlier:
    """Raises UnknownHandleError; RequestError for an answer that is not about masks, or about regions of a
    frame."""
    record = library.store.get_answer(handle)
    plan: Mapping[str, list[int]] = record.extra.get(_PLAN, {})
    if record.kind not in ("segment", "ground", "track") or not (record.mask_handles or plan):
        raise RequestError(
            f"{handle} ({record.kind}) has no masks that objects could be added to.",
            hint="Give the answer of segment, ground or track; to begin anew, call segment.",
        )
    opened = library.open(handle, cancel)
    kept = [(name, library.mask(name, opened, cancel)) for name in record.mask_handles]
    frames = kept[0][1].track.frame_indices if kept else tuple(plan["frames"])
    clip = Clip(opened.media, frames, cancel)
    objects = [
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
    ]
    for at, label, reason in record.extra.get(_MISSED, ()):
        objects.insert(at, not_found(label, reason))
    made = record.provenance
    wishes = MaskWishes(
        made.get("gate_by_object_score", True), made.get("threshold", 0.5), made.get("smooth", False)
    )
    return Earlier(
        opened,
        clip,
        wishes,
        tuple(objects),
        made,
        plan,
        tuple((expression, said) for expression, said in record.extra.get(_ASKED, ())),
        record.raw_text if record.extra.get(_ASKED) else "",
        tuple(record.question.split("\n"))
        if record.kind == "segment"
        else tuple(item.label for item in objects),
    )
