"""Tracks and answers → results, written into the store, where they get their handles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.library import Opened
from sa2va_tools.engine.results import AnswerResult, MaskObject, Provenance
from sa2va_tools.engine.tracks import score_of, why_not_found
from sa2va_tools.masks.suspects import suspects
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.progress import CancelToken, check_of
from sa2va_tools.store.records import AnswerRecord, MaskRecord
from sa2va_tools.store.store import Store


@dataclass(frozen=True, slots=True)
class Recorder:
    """Where results of one call go."""

    store: Store
    opened: Opened
    clip: Clip
    provenance: Provenance
    cancel: CancelToken | None = None

    def found(
        self, label: str, track: MaskTrack, *, gate: bool, phrase_span: tuple[int, int] | None = None
    ) -> MaskObject:
        """The object with its handle; without one, and with the reason, where nothing was found."""
        reason = why_not_found(track, gate_by_object_score=gate)
        if reason:
            return not_found(label, reason, phrase_span)
        score = score_of(track)
        record = MaskRecord(self.opened.ref.handle, label, track, score, self.provenance.to_json())
        return MaskObject(
            label=label,
            found=True,
            reason="",
            handle=self.store.put_mask(record, check_of(self.cancel)),
            track=track,
            score=score,
            phrase_span=phrase_span,
            suspects=suspects(track),
            times_s=self.clip.times_of(track.frame_indices),
        )

    def answer(
        self,
        kind: str,
        question: str,
        text: str,
        raw_text: str,
        objects: Sequence[MaskObject],
        warnings: Sequence[str],
        extra: Mapping[str, Any] | None = None,
    ) -> AnswerResult:
        """The whole result under one handle; `extra` as in `AnswerRecord`."""
        handles = tuple(item.handle for item in objects if item.handle is not None)
        labels = tuple(item.label for item in objects if item.handle is not None)
        handle = self.store.put_answer(
            AnswerRecord(
                self.opened.ref.handle,
                kind,
                question,
                text,
                raw_text,
                handles,
                labels,
                self.provenance.to_json(),
                tuple(warnings),
                extra or {},
            )
        )
        return AnswerResult(
            handle,
            self.opened.ref,
            question,
            text,
            raw_text,
            tuple(objects),
            self.provenance,
            (*warnings, *self._told_of_memory()),
        )

    def _told_of_memory(self) -> list[str]:
        """Not part of the record, like all that differs from run to run."""
        relief = self.provenance.relief
        return [f"Memory ran short, so {'; '.join(relief)}."] if relief else []


def not_found(label: str, reason: str, phrase_span: tuple[int, int] | None = None) -> MaskObject:
    return MaskObject(label, False, reason, None, None, 0.0, phrase_span)
