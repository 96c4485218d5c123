"""Results that are in the store: listed, and loaded again as they were returned. Needs no model, and not the
image or video, which may be gone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, get_args

from sa2va_tools.checks import show_value
from sa2va_tools.engine.duplicates import mark_duplicates
from sa2va_tools.engine.library import Library, describe_media
from sa2va_tools.engine.mask_object import MaskObject, MediaRef
from sa2va_tools.engine.results import (
    AnswerResult,
    CaptionResult,
    Provenance,
    RegionCaption,
    ResultKind,
    SegmentResult,
)
from sa2va_tools.errors import AccessDeniedError, MediaError, RequestError, StoreError
from sa2va_tools.media.media import Media
from sa2va_tools.model.text.prompts import clean_answer
from sa2va_tools.run import Run
from sa2va_tools.store.handles import parse_kind
from sa2va_tools.store.inventory import StoredFile, list_files
from sa2va_tools.store.records import AnswerRecord

NO_REASON = "No mask was stored for it."


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """What a list of results says about one of them."""

    handle: str
    """`answer:…`"""
    kind: str
    """`describe`, `segment`, `ground`, `caption` or `track`."""
    media: MediaRef | None
    """None if nothing is known of it any more."""
    labels: tuple[str, ...]
    """Of its masks."""
    missing: tuple[str, ...]
    """What was asked for and not found."""
    question: str
    text: str
    """The answer in words."""
    stored_at: datetime
    """When it was last made, in UTC."""
    size_bytes: int
    """On disk, with its masks."""


LoadedResult = AnswerResult | SegmentResult | CaptionResult


def list_results(
    library: Library, *, media: Any = None, kind: ResultKind | None = None, text: str = "", run: Run
) -> list[StoredResult]:
    """See `Engine.list_results`, without the limit."""
    if kind is not None and kind not in get_args(ResultKind):
        raise RequestError(
            f"kind is {show_value(kind)}; it must be one of {', '.join(get_args(ResultKind))}.",
            hint="Leave it out to list results of every kind.",
        )
    wanted = None if media is None else _find_media_handles(library, media, run)
    sizes = {file.handle: file.size_bytes for file in list_files(library.store.root, ("mask",))}
    known: dict[str, tuple[Media, ...]] = {}
    found = []
    for file in _newest_files(library):
        run.raise_if_cancelled()
        with suppress(StoreError, RequestError):  # damaged, or removed meanwhile: it cannot be shown either
            record = library.store.get_answer(file.handle)
            if wanted is not None and record.media_handle not in wanted:
                continue
            name = record.media_handle or ""
            if name not in known:
                known[name] = _recall_media(library, name)
            places = known[name]
            if not library.may_list(name, places):
                continue
            result = _describe_answer(file, record, places, sizes)
            if (kind is None or kind == result.kind) and _mentions(result, text):
                found.append(result)
    return found


def load_result(library: Library, handle: str, run: Run) -> LoadedResult:
    """See `Engine.load_result`."""
    is_mask = parse_kind(handle) == "mask"
    record = _wrap_mask(library, handle, run) if is_mask else library.store.get_answer(handle)
    if record.media_handle is None:
        raise RequestError(f"{handle} refers to no image or video.", hint="Give another answer handle.")
    media = require_readable(library, record.media_handle)
    ref = describe_media(media, record.media_handle)
    provenance = _read_provenance(record.provenance, media)
    if record.kind == "caption":
        return _load_captions(library, handle, record, media, provenance, run)
    objects = load_objects(library, record, media, run)
    source = None
    with suppress(MediaError, AccessDeniedError):  # its files moved: everything but pictures is here
        source = library.open(record.media_handle, run).media
    common: dict[str, Any] = {
        "handle": handle,
        "media": ref,
        "objects": objects,
        "provenance": provenance,
        "warnings": record.warnings,
        "source": source,
    }
    if record.kind in ("segment", "track"):
        answers = record.extension.answers if record.extension else ()
        return SegmentResult(**common, answers=tuple(text for _, text in answers))
    return AnswerResult(**common, question=record.question, text=record.text, raw_text=record.raw_text)


def load_objects(library: Library, record: AnswerRecord, media: Media, run: Run) -> tuple[MaskObject, ...]:
    """The objects of an answer in their order, also those that were not found."""
    times = media.timestamps_s if media.kind == "video" else ()
    objects = []
    for handle in record.mask_handles:
        mask = library.store.get_mask(handle, run)
        covered = mask.track.frame_indices
        objects.append(
            MaskObject.from_record(handle, mask, tuple(times[frame] for frame in covered) if times else ())
        )
    for at, label, reason in record.extension.missing if record.extension else ():
        objects.insert(at, MaskObject.missing(label, media.size_wh, reason or NO_REASON))
    return mark_duplicates(_add_spans(objects, record) if record.kind == "ground" else objects)


def require_readable(library: Library, media_handle: str) -> Media:
    """The media as it was stored, if the access policy allows one of its places. AccessDeniedError,
    UnknownHandleError."""
    places = library.store.recall_media(media_handle)
    readable = [place for place in places if place.path is None or library.may_read(place.path)]
    if not readable:
        raise library.access.refuse()
    return readable[0]


def _newest_files(library: Library) -> list[StoredFile]:
    """One file per answer: two formats may have the same one."""
    files = list_files(library.store.root, ("answer",))
    return list({file.handle: file for file in reversed(files)}.values())[::-1]


def _find_media_handles(library: Library, media: Any, run: Run) -> set[str]:
    """The handles of what was stored of a file, also if that is gone or has changed, or of other media."""
    kind = parse_kind(media.strip()) if isinstance(media, str) else None
    if kind is not None:
        handle = library.find_media_handle(media.strip(), kind, run)
        library.store.recall_media(handle)  # raises if it is not in the store
        return {handle}
    path = library.find_path(media)
    known = library.store.handles("media") if path is not None else ()
    handles = {name for name in known if path in {place.path for place in _recall_media(library, name)}}
    return handles or {library.open(media, run).ref.handle}


def _recall_media(library: Library, handle: str) -> tuple[Media, ...]:
    with suppress(StoreError, RequestError):
        return library.store.recall_media(handle)
    return ()


def _describe_answer(
    file: StoredFile, record: AnswerRecord, places: Sequence[Media], sizes: dict[str, int]
) -> StoredResult:
    missing = record.extension.missing if record.extension else ()
    masks = set(record.mask_handles)
    handle = record.media_handle or ""
    return StoredResult(
        handle=file.handle,
        kind=record.kind,
        media=describe_media(places[0], handle) if places else None,
        labels=record.labels,
        missing=tuple(label for _, label, _ in missing),
        question=record.question,
        text=record.text,
        stored_at=datetime.fromtimestamp(file.modified_ns / 1e9, UTC),
        size_bytes=file.size_bytes + sum(sizes.get(mask, 0) for mask in masks),
    )


def _mentions(result: StoredResult, text: str) -> bool:
    """Whether a label, the question, the answer or the media's name contains the text, in any case."""
    name = "" if result.media is None else result.media.name
    words = "\n".join((*result.labels, *result.missing, result.question, result.text, name))
    return text.casefold() in words.casefold()


def _wrap_mask(library: Library, handle: str, run: Run) -> AnswerRecord:
    """A single mask as the result of a call that asked for nothing else."""
    mask = library.store.get_mask(handle, run)
    return AnswerRecord(
        media_handle=mask.media_handle,
        kind="track",
        question=mask.label,
        text="",
        raw_text="",
        mask_handles=(handle,),
        labels=(mask.label,),
        provenance=mask.provenance,
    )


def _read_provenance(stored: Any, media: Media) -> Provenance:
    """What was not stored (by older versions, or because it had its default) has a neutral value."""
    unknown = {"checkpoint": "unknown", "revision": "", "family": "", "mode": "", "device": "", "dtype": ""}
    values: dict[str, Any] = {
        "llm_frames": (),
        "frames": 0,
        "size_wh": media.size_wh,
        "version": "",
        **unknown,
        **stored,
    }
    names = {entry.name for entry in fields(Provenance)}
    chosen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names
    }
    return Provenance(**chosen)


def _add_spans(objects: list[MaskObject], record: AnswerRecord) -> list[MaskObject]:
    """The characters of the text to which each mask belongs, from the model's own text."""
    spans: Sequence[tuple[int, int] | None] = clean_answer(record.raw_text).phrase_spans
    if len(spans) < len(objects):  # the text has no markup
        starts = [record.text.find(item.label) for item in objects]
        spans = [
            (start, start + len(item.label)) if start >= 0 else None
            for start, item in zip(starts, objects, strict=True)
        ]
    return [replace(item, phrase_span=span) for item, span in zip(objects, spans, strict=False)]


def _load_captions(
    library: Library, handle: str, record: AnswerRecord, media: Media, provenance: Provenance, run: Run
) -> CaptionResult:
    objects = load_objects(library, record, media, run)
    frame = provenance.llm_frames[0] if provenance.llm_frames else 0
    regions = mark_duplicates([item.keep_frame(frame) for item in objects])
    lines = record.text.split("\n")
    # A caption of several lines cannot be told from several captions.
    texts = lines if len(lines) == len(regions) else [record.text] + [""] * (len(regions) - 1)
    return CaptionResult(
        handle=handle,
        media=describe_media(media, record.media_handle or ""),
        frame_index=frame,
        captions=tuple(RegionCaption(item, text) for item, text in zip(regions, texts, strict=True)),
        provenance=provenance,
        warnings=record.warnings,
    )
