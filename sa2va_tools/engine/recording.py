"""Tracks and answers → results, written into the store, which gives them their handles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.duplicates import mark_duplicates
from sa2va_tools.engine.library import Library, OpenedMedia
from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.engine.results import (
    AnswerResult,
    CaptionResult,
    Provenance,
    RegionCaption,
    SegmentResult,
)
from sa2va_tools.engine.tracks import explain_missing, score_track
from sa2va_tools.errors import MediaUnreadableError, StoreError
from sa2va_tools.masks.suspects import find_suspects
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.run import Run
from sa2va_tools.store.records import AnswerRecord, ExtensionRecord, MaskRecord

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Recorder:
    """Where the results of one call go."""

    library: Library
    opened: OpenedMedia
    clip: Clip
    provenance: Provenance
    run: Run

    def require_unchanged_media(self) -> None:
        """MediaUnreadableError if the file is no longer what was opened: the masks are of other frames."""
        if self.library.has_changed(self.opened):
            raise MediaUnreadableError(
                f"{self.opened.ref.name} changed while it was being processed.",
                hint="Call again: the file now contains another image or video.",
            )

    def record_object(self, label: str, track: MaskTrack, span: Span | None = None) -> MaskObject:
        """Store a mask. Without a handle, and with the reason, if nothing was found."""
        size_wh = self.opened.ref.size_wh
        reason = explain_missing(track, gate_by_object_score=self.provenance.gate_by_object_score)
        if reason:
            return MaskObject.missing(label, size_wh, reason, span)
        score = score_track(track)
        record = self._make_record(label, track, score)
        return MaskObject(
            label=label,
            size_wh=size_wh,
            handle=self.library.store.put_mask(record, self.run),
            track=track,
            score=score,
            phrase_span=span,
            suspects=find_suspects(track),
            times_s=self.clip.times_s(track.frame_indices),
        )

    def record_answer(
        self,
        kind: str,
        question: str,
        text: str,
        raw_text: str,
        objects: Sequence[MaskObject] = (),
        warnings: Sequence[str] = (),
        *,
        turns: tuple[tuple[str, str], ...] = (),
        extension: ExtensionRecord | None = None,
    ) -> AnswerResult:
        """Store the whole result under one handle. Warnings about the media come first."""
        warnings = (*self.clip.media.warnings, *warnings)
        masks = [(item.handle, item.label) for item in objects if item.handle is not None]
        record = AnswerRecord(
            media_handle=self.opened.ref.handle,
            kind=kind,
            question=question,
            text=text,
            raw_text=raw_text,
            mask_handles=tuple(handle for handle, _ in masks),
            labels=tuple(label for _, label in masks),
            provenance=self.provenance.to_json(),
            warnings=warnings,
            turns=turns,
            extension=extension,
        )
        handle = self.library.store.put_answer(record)
        self._store_again_what_was_removed(handle, record, objects)
        return AnswerResult(
            handle=handle,
            media=self.opened.ref,
            question=question,
            text=text,
            raw_text=raw_text,
            objects=mark_duplicates(objects),
            provenance=self.provenance,
            warnings=(*warnings, *self._memory_warnings()),
            source=self.opened.media,
        )

    def _store_again_what_was_removed(
        self, handle: str, record: AnswerRecord, objects: Sequence[MaskObject]
    ) -> None:
        """Somebody may have removed results while this call was running, and with them what this answer names
        (see `store.removal`). StoreError if that cannot be stored again because it is of an earlier call."""
        store = self.library.store
        missing = store.find_missing((self.opened.ref.handle, handle, *record.mask_handles))
        if not missing:
            return
        store.put_media(self.opened.media)
        for item in objects:
            if item.handle in missing and item.track is not None:
                again = self._make_record(item.label, item.track, item.score)
                if store.put_mask(again, self.run) != item.handle:
                    raise StoreError(
                        f"{item.handle}, a part of this result, was removed from the store meanwhile.",
                        hint="Start over from the image or video instead of the removed result.",
                    )
        store.put_answer(record)

    def _make_record(self, label: str, track: MaskTrack, score: float) -> MaskRecord:
        return MaskRecord(self.opened.ref.handle, label, track, score, self.provenance.to_json())

    def record_captions(
        self, question: str, captions: Sequence[RegionCaption], raw_text: str, warnings: Sequence[str] = ()
    ) -> CaptionResult:
        """Store descriptions of regions of the clip's only frame."""
        text = "\n".join(caption.text for caption in captions)
        objects = [caption.region for caption in captions]
        answer = self.record_answer("caption", question, text, raw_text, objects, warnings)
        return CaptionResult(
            handle=answer.handle,
            media=answer.media,
            frame_index=self.clip.frame_indices[0],
            captions=tuple(
                RegionCaption(item, caption.text)
                for item, caption in zip(answer.objects, captions, strict=True)
            ),
            provenance=answer.provenance,
            warnings=answer.warnings,
        )

    def _memory_warnings(self) -> list[str]:
        """Not stored, like everything that differs from run to run."""
        fallbacks = self.provenance.memory_fallbacks
        return [f"Memory ran short: {'; '.join(fallbacks)}."] if fallbacks else []


def as_segment_result(answer: AnswerResult, answers: tuple[str, ...] = ()) -> SegmentResult:
    """A stored answer as the result of `segment` or `track`; `answers` are those to each expression."""
    return SegmentResult(
        handle=answer.handle,
        media=answer.media,
        objects=answer.objects,
        answers=answers,
        provenance=answer.provenance,
        warnings=answer.warnings,
        source=answer.source,
    )
