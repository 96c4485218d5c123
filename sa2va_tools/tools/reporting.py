"""Engine results → what tools answer with: fields, caps and the summary in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from sa2va_tools.engine.mask_object import MaskObject, MediaRef
from sa2va_tools.engine.results import CaptionResult, MaskResult, Provenance
from sa2va_tools.masks import rle
from sa2va_tools.masks.geometry import find_spans
from sa2va_tools.masks.suspects import Reason, Suspect
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.tools import outputs
from sa2va_tools.tools.outputs import MAX_FRAMES_LISTED, MAX_MASKS, MAX_SPANS

_MAX_LABEL = 120
_MAX_REASON = 300
_DEFAULT_THRESHOLD = 0.5


def media_out(ref: MediaRef) -> outputs.MediaOut:
    return outputs.MediaOut(
        handle=ref.handle,
        name=ref.name,
        kind=ref.kind,
        size_wh=ref.size_wh,
        frames=ref.frame_count,
        fps=None if ref.fps is None else round(float(Fraction(ref.fps)), 3),
        duration_s=None if ref.duration_s is None else round(ref.duration_s, 3),
    )


def trace_fields(result: MaskResult | CaptionResult, warnings: Sequence[str]) -> dict[str, Any]:
    """The fields of `Traced`."""
    return {
        "warnings": list(warnings),
        "handle": result.handle,
        "media": media_out(result.media),
        "provenance": _provenance_out(result.provenance),
    }


def _provenance_out(provenance: Provenance) -> outputs.ProvenanceOut:
    changes = {
        "llm_frames": provenance.llm_frames[:MAX_FRAMES_LISTED],
        "prompt_frames": provenance.prompt_frames[:MAX_FRAMES_LISTED],
        "seconds": round(sum(provenance.timings_s.values()), 3),
        "threshold": None if provenance.threshold == _DEFAULT_THRESHOLD else provenance.threshold,
        "smooth": provenance.smooth or None,
        "gate_by_object_score": None if provenance.gate_by_object_score else False,
        "memory_fallbacks": provenance.memory_fallbacks or None,
    }
    return outputs.ProvenanceOut.model_validate(asdict(provenance) | changes)


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects as result fields, capped, with what was left out."""

    fields: list[dict[str, Any]]
    """Keyword arguments of MaskOut, one per listed object."""
    truncated: bool
    warnings: list[str]


def list_masks(objects: Sequence[MaskObject], media: MediaRef, warnings: Iterable[str]) -> Listing:
    """The first MAX_MASKS objects; a warning tells how to reach the rest."""
    shown = objects[:MAX_MASKS]
    fields = [_mask_fields(item, media) for item in shown]
    spans_cut = any(len(_spans(item, media)) > MAX_SPANS for item in shown)
    notes = list(warnings)
    if len(objects) > len(shown):
        notes.append(f"Only {len(shown)} of {len(objects)} masks are listed; ask for fewer objects per call.")
    if spans_cut:
        notes.append(f"Only {MAX_SPANS} visible spans are listed; choose a shorter range (start_s, end_s).")
    truncated = len(objects) > len(shown) or spans_cut
    return Listing(fields, truncated, notes)


def _mask_fields(item: MaskObject, media: MediaRef) -> dict[str, Any]:
    return {
        "label": _shorten(item.label, _MAX_LABEL),
        "found": item.found,
        "reason": _shorten(item.reason, _MAX_REASON) or None,
        "handle": item.handle,
        "score": round(item.score, 3),
        "duplicate_of": item.duplicate_of,
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


def format_suspects(mask: outputs.MaskOut) -> str:
    """`suspect: area jump at 3, 9; lost at 20`, for a mask that has suspects."""
    suspects = mask.suspects or {}
    reasons = [f"{reason} at {', '.join(map(str, frames))}" for reason, frames in suspects.items()]
    return f"suspect: {'; '.join(reasons)}"


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


def _spans(item: MaskObject, media: MediaRef) -> list[outputs.SpanOut]:
    if item.track is None or media.fps is None:
        return []
    fps = Fraction(media.fps)
    times_s = item.times_s or [float(frame / fps) for frame in item.track.frame_indices]
    return [
        outputs.SpanOut(**asdict(span) | {"start_s": round(span.start_s, 3), "end_s": round(span.end_s, 3)})
        for span in find_spans(item.track, times_s)
    ]


def media_words(ref: MediaRef) -> str:
    """`clip.mp4 (media:…, video, 320×240, 16 frames, 1.6 s)`."""
    facts = [ref.handle, ref.kind, f"{ref.size_wh[0]}×{ref.size_wh[1]}"]
    if ref.duration_s is not None:
        facts += [f"{ref.frame_count} frames", f"{ref.duration_s:.1f} s"]
    return f"{ref.name} ({', '.join(facts)})"


def masks_words(masks: Sequence[outputs.MaskOut]) -> str:
    """One clause per mask, with handle, score, place and time, or why it was not found."""
    return "; ".join(_mask_words(mask) for mask in masks)


def _mask_words(mask: outputs.MaskOut) -> str:
    if not mask.found:
        return f'"{mask.label}" not found ({mask.reason or "no reason given"})'
    words = f'"{mask.label}" is {mask.handle}, score {mask.score:.2f}'
    words += f", the same object as {mask.duplicate_of}" if mask.duplicate_of else ""
    if mask.box_xyxy is not None:
        edges = ", ".join(f"{edge:g}" for edge in mask.box_xyxy)
        words += f", box [{edges}]"
    spans = mask.visible_spans or []
    if spans:
        first, last = spans[0], spans[-1]
        words += f" at frame {mask.frame}, visible in frames {first.start_frame}–{last.end_frame}"
        words += f" ({first.start_s:g}–{last.end_s:g} s)"
        words += f" in {len(spans)} separate intervals" if len(spans) > 1 else ""
    if mask.suspects:
        words += f" ({format_suspects(mask)})"
    return words


def in_words(summary: str, warnings: Iterable[str], *more: str) -> str:
    """Everything for a reader that sees no structured content."""
    return "\n".join([summary, *more, *(f"Warning: {warning}" for warning in warnings)])


def quote(text: str) -> str:
    """The model's own words, in marks that separate them from ours."""
    return "«" + text.replace("«", "‹").replace("»", "›") + "»"


def _shorten(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
