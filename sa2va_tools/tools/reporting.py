"""Engine results → what tools answer with: fields, caps and the summary in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sa2va_tools.engine.results import MaskObject, MediaRef, Provenance
from sa2va_tools.errors import StoreError
from sa2va_tools.masks import rle
from sa2va_tools.masks.geometry import spans_of_covered
from sa2va_tools.masks.suspects import Reason, Suspect
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.tools.outputs import (
    MAX_FRAMES_LISTED,
    MAX_MASKS,
    MAX_SPANS,
    MaskOut,
    MediaOut,
    ProvenanceOut,
    SpanOut,
)

_MAX_LABEL = 120
_MAX_REASON = 300
_USUAL_THRESHOLD = 0.5


def media_out(ref: MediaRef) -> MediaOut:
    return MediaOut(
        handle=ref.handle,
        name=ref.name,
        kind=ref.kind,
        size_wh=ref.size_wh,
        frames=ref.frame_count,
        fps=None if ref.fps is None else round(float(Fraction(ref.fps)), 3),
        duration_s=None if ref.duration_s is None else round(ref.duration_s, 3),
    )


def require_media(ref: MediaRef | None) -> MediaRef:
    """The media of an answer that a tool asked for; chat without media is no tool."""
    if ref is None:
        raise StoreError("The answer came back without the media that it is about.", hint="Call again.")
    return ref


def provenance_out(provenance: Provenance) -> ProvenanceOut:
    timings_s = provenance.timings_s
    return ProvenanceOut(
        checkpoint=provenance.checkpoint,
        revision=provenance.revision,
        mode=provenance.mode,
        key_frames=list(provenance.key_frames[:MAX_FRAMES_LISTED]),
        frames=provenance.frames,
        complete=provenance.complete,
        device=provenance.device,
        dtype=provenance.dtype,
        seconds=round(timings_s.get("total", sum(timings_s.values())), 3),
        threshold=None if provenance.threshold == _USUAL_THRESHOLD else provenance.threshold,
        smooth=provenance.smooth or None,
        gate_by_object_score=None if provenance.gate_by_object_score else False,
        encoder_passes=provenance.encoder_passes,
        relief=list(provenance.relief) or None,
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects as result fields, capped, with what was left out."""

    fields: list[dict[str, Any]]
    """Keyword arguments of MaskOut, one per listed object."""
    masks: list[MaskOut]
    truncated: bool
    warnings: list[str]


def list_masks(objects: Sequence[MaskObject], media: MediaRef, warnings: Iterable[str]) -> Listing:
    """The first MAX_MASKS objects; a warning tells how to reach the rest."""
    shown = objects[:MAX_MASKS]
    fields = [_mask_fields(item, media) for item in shown]
    spans_cut = any(len(_spans(item, media)) > MAX_SPANS for item in shown)
    notes = list(warnings)
    if len(objects) > len(shown):
        notes.append(f"{len(objects) - len(shown)} more masks are not listed; ask for fewer at a time.")
    if spans_cut:
        notes.append(f"Only the first {MAX_SPANS} visible spans are listed; narrow start_s and end_s.")
    truncated = len(objects) > len(shown) or spans_cut
    return Listing(fields, [MaskOut(**each) for each in fields], truncated, notes)


def _mask_fields(item: MaskObject, media: MediaRef) -> dict[str, Any]:
    return {
        "label": _shortened(item.label, _MAX_LABEL),
        "found": item.found,
        "reason": _shortened(item.reason, _MAX_REASON) or None,
        "handle": item.handle,
        "score": round(item.score, 3),
        "visible_spans": _spans(item, media)[:MAX_SPANS] or None,
        "suspect_frames": list(item.suspect_frames[:MAX_FRAMES_LISTED]) or None,
        "suspects": _by_reason(item.suspects[:MAX_FRAMES_LISTED]) or None,
    } | _where(item.track)


def _by_reason(suspects: Sequence[Suspect]) -> dict[Reason, list[int]]:
    frames: dict[Reason, list[int]] = {}
    for suspect in suspects:
        for reason in suspect.reasons:
            frames.setdefault(reason, []).append(suspect.frame_index)
    return frames


def doubts(mask: MaskOut) -> str:
    """`doubtful: area jump at 3, 9; lost at 20`; nothing where nothing looks wrong."""
    if not mask.suspects:
        return ""
    said = [f"{reason} at {', '.join(map(str, frames))}" for reason, frames in mask.suspects.items()]
    return f"doubtful: {'; '.join(said)}"


def _where(track: MaskTrack | None) -> dict[str, Any]:
    """Box and area at the frame where the mask is largest; nothing where no pixel is set."""
    if track is None or not track.visible:
        return {}
    frame_index = track.largest_frame
    box_xyxy = rle.bounding_box_xyxy(track.at(frame_index))
    width, height = track.size_wh
    return {
        "frame": frame_index,
        "box_xyxy": None if box_xyxy is None else tuple(round(edge, 1) for edge in box_xyxy),
        "area_fraction": round(track.area(frame_index) / (width * height), 5),
    }


def _spans(item: MaskObject, media: MediaRef) -> list[SpanOut]:
    if item.track is None or media.fps is None:
        return []
    fps = Fraction(media.fps)
    times_s = item.times_s or [float(frame / fps) for frame in item.track.frame_indices]
    return [
        SpanOut(
            start_frame=span.start_frame,
            end_frame=span.end_frame,
            start_s=round(span.start_s, 3),
            end_s=round(span.end_s, 3),
        )
        for span in spans_of_covered(item.track, times_s)
    ]


def media_words(ref: MediaRef) -> str:
    """`clip.mp4 (media:…, video, 320×240, 16 frames, 1.6 s)`."""
    facts = [ref.handle, ref.kind, f"{ref.size_wh[0]}×{ref.size_wh[1]}"]
    if ref.duration_s is not None:
        facts += [f"{ref.frame_count} frames", f"{ref.duration_s:.1f} s"]
    return f"{ref.name} ({', '.join(facts)})"


def masks_words(masks: Sequence[MaskOut]) -> str:
    """One clause per mask: handle, score, place and time, or why it was not found."""
    return "; ".join(_mask_words(mask) for mask in masks)


def _mask_words(mask: MaskOut) -> str:
    if not mask.found:
        return f'"{mask.label}" not found ({mask.reason or "no reason given"})'
    words = f'"{mask.label}" is {mask.handle}, score {mask.score:.2f}'
    if mask.box_xyxy is not None:
        edges = ", ".join(f"{edge:g}" for edge in mask.box_xyxy)
        words += f", box [{edges}]"
    spans = mask.visible_spans or []
    if spans:
        first, last = spans[0], spans[-1]
        words += f" at frame {mask.frame}, seen in frames {first.start_frame}–{last.end_frame}"
        words += f" ({first.start_s:g}–{last.end_s:g} s)"
        words += f" in {len(spans)} stretches" if len(spans) > 1 else ""
    if mask.suspects:
        words += f" ({doubts(mask)})"
    return words


def in_words(summary: str, warnings: Iterable[str], *more: str) -> str:
    """Everything for a reader that sees no structured content."""
    return "\n".join([summary, *more, *(f"Warning: {warning}" for warning in warnings)])


def quoted(text: str) -> str:
    """Words of a model, marked off from ours."""
    return "«" + text.replace("«", "‹").replace("»", "›") + "»"


def _shortened(text: str, limit: int) -> str:
    """On one line."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
