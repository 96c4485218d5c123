"""Results as they were returned, from the store: what a result contains besides its stored answer and masks,
and both put together again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.duplicates import mark_duplicates
from sa2va_tools.engine.library import Library, OpenedMedia
from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.engine.results import AnswerResult, CaptionResult, Provenance, RegionCaption, SegmentResult
from sa2va_tools.errors import StoreError, UnknownHandleError
from sa2va_tools.run import Run
from sa2va_tools.store.records import AnswerRecord, Json


def describe_outcome(result: AnswerResult | CaptionResult | SegmentResult) -> Json:
    """What is needed to return the result again, besides the answer and the masks behind its handles."""
    outcome: Json = {"answer": result.handle, "name": result.media.name}
    if isinstance(result, CaptionResult):
        objects = [caption.region for caption in result.captions]
        texts = [caption.text for caption in result.captions]
        outcome |= {"type": "captions", "texts": texts, "frame_index": result.frame_index}
    elif isinstance(result, SegmentResult):
        objects = list(result.objects)
        outcome |= {"type": "segment", "texts": list(result.answers)}
    else:
        objects = list(result.objects)
        outcome |= {"type": "answer"}
    return outcome | {"objects": [_describe_object(item) for item in objects]}


def restore_result(
    outcome: Json, library: Library, opened: OpenedMedia, run: Run
) -> AnswerResult | CaptionResult | SegmentResult | None:
    """The result that `outcome` describes, about the same media. None if any part of it is no longer in the
    store or cannot be read. Raises CancelledError."""
    try:
        record = library.store.get_answer(outcome["answer"])
        provenance = Provenance.from_json(record.provenance)
        if not provenance.complete and outcome["name"] != opened.ref.name:
            return None  # its warnings call the file by its other name
        objects = [_restore_object(fields, library, opened, run) for fields in outcome["objects"]]
        return _restore(outcome, record, provenance, objects, opened)
    except (StoreError, UnknownHandleError, KeyError, TypeError, ValueError):
        return None


def _describe_object(item: MaskObject) -> Json:
    return {
        "label": item.label,
        "reason": item.reason,
        "handle": item.handle,
        "span": None if item.phrase_span is None else list(item.phrase_span),
    }


def _restore_object(fields: Json, library: Library, opened: OpenedMedia, run: Run) -> MaskObject:
    span = None if fields["span"] is None else (int(fields["span"][0]), int(fields["span"][1]))
    if fields["handle"] is None:
        return MaskObject.missing(fields["label"], opened.ref.size_wh, fields["reason"], span)
    record = library.mask(fields["handle"], opened, run)
    times_s = Clip(opened.media, (), run).times_s(record.track.frame_indices)
    found = MaskObject.from_record(fields["handle"], record, times_s)
    return replace(found, label=fields["label"], phrase_span=span)


def _restore(
    outcome: Json,
    record: AnswerRecord,
    provenance: Provenance,
    objects: list[MaskObject],
    opened: OpenedMedia,
) -> AnswerResult | CaptionResult | SegmentResult:
    shared: dict[str, Any] = {
        "handle": outcome["answer"],
        "media": opened.ref,
        "provenance": provenance,
        "warnings": record.warnings,
    }
    masked: dict[str, Any] = {"objects": mark_duplicates(objects), "source": opened.media}
    if outcome["type"] == "segment":
        return SegmentResult(**shared, **masked, answers=tuple(outcome["texts"]))
    if outcome["type"] == "answer":
        words: dict[str, Any] = {
            "question": record.question,
            "text": record.text,
            "raw_text": record.raw_text,
        }
        return AnswerResult(**shared, **masked, **words)
    frame_index = int(outcome["frame_index"])
    regions = mark_duplicates([item.keep_frame(frame_index) for item in objects])
    captions = tuple(
        RegionCaption(region, str(text)) for region, text in zip(regions, outcome["texts"], strict=True)
    )
    return CaptionResult(**shared, frame_index=frame_index, captions=captions)
