"""Results in words for people on a terminal. Knows nothing of engines; lines in, lines out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from sa2va_tools.tools.outputs import (
    CaptionsResult,
    DescribeResult,
    GroundResult,
    MaskOut,
    MasksResult,
    MediaOut,
    ProvenanceOut,
)
from sa2va_tools.tools.reporting import doubts

# Labels, answers and file names are foreign text: nothing of it may drive the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with control characters made visible."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def masks_lines(result: MasksResult) -> list[str]:
    return [media_line(result.media), *mask_table(result.masks), *_trace(result)]


def describe_lines(result: DescribeResult) -> list[str]:
    return [media_line(result.media), _indented(result.text), *_trace(result)]


def ground_lines(result: GroundResult) -> list[str]:
    return [media_line(result.media), _indented(result.text), *mask_table(result.masks), *_trace(result)]


def caption_lines(result: CaptionsResult) -> list[str]:
    where = "" if result.media.fps is None else f", frame {result.frame_index}"
    lines = [media_line(result.media) + where]
    for region in result.regions:
        lines.append(f"  {printable(region.label)}  {region.handle or ''}".rstrip())
        lines.append("  " + _indented(region.text))
    return lines + _trace(result)


def file_lines(files: Mapping[str, str]) -> list[str]:
    """Where the exported files are."""
    width = max(map(len, files), default=0)
    return ["Written:", *(f"  {kind:<{width}}  {printable(path)}" for kind, path in files.items())]


def media_line(media: MediaOut) -> str:
    facts = [media.kind, f"{media.size_wh[0]}x{media.size_wh[1]}"]
    if media.duration_s is not None:
        facts += [f"{media.frames} frames", f"{media.duration_s:.2f} s"]
    return f"{printable(media.name)}  {', '.join(facts)}  {media.handle}"


def mask_table(masks: Sequence[MaskOut]) -> list[str]:
    """One line per mask: found or not, label, handle, score, when and where."""
    if not masks:
        return ["  no masks"]
    width = max(len(printable(mask.label)) for mask in masks)
    return [f"  {'found    ' if mask.found else 'not found'}  {_mask_line(mask, width)}" for mask in masks]


def _mask_line(mask: MaskOut, width: int) -> str:
    label = f"{printable(mask.label):<{width}}"
    if not mask.found:
        kept = f"  ({mask.handle})" if mask.handle else ""
        return f"{label}  {printable(mask.reason or 'no reason given')}{kept}"
    parts = [label, mask.handle or "", f"score {mask.score:.2f}"]
    spans = mask.visible_spans or []
    if spans:
        shown = ", ".join(f"{span.start_frame}-{span.end_frame}" for span in spans)
        parts.append(f"frames {shown} ({spans[0].start_s:.2f}-{spans[-1].end_s:.2f} s)")
    if mask.box_xyxy is not None:
        edges = ", ".join(f"{edge:g}" for edge in mask.box_xyxy)
        parts.append(f"box [{edges}]" + (f" at frame {mask.frame}" if spans else ""))
    if mask.suspects:
        parts.append(doubts(mask))
    return "  ".join(parts)


def _trace(result: MasksResult | DescribeResult | GroundResult | CaptionsResult) -> list[str]:
    return [
        f"{provenance_words(result.provenance)} All of it: {result.handle}",
        *warning_lines(result.warnings),
    ]


def provenance_words(provenance: ProvenanceOut) -> str:
    saw = f"; saw frames {_few(provenance.key_frames)}" if len(provenance.key_frames) > 1 else ""
    checkpoint = printable(provenance.checkpoint)
    return f"Model {checkpoint} ({provenance.mode}{saw}), {provenance.seconds:.2f} s on {provenance.device}."


def warning_lines(warnings: Iterable[str]) -> list[str]:
    return [f"Warning: {printable(warning)}" for warning in warnings]


def _few(frames: Sequence[int], limit: int = 8) -> str:
    shown = ", ".join(map(str, frames[:limit]))
    return shown + (", …" if len(frames) > limit else "")


def _indented(text: str) -> str:
    return "\n".join(f"  {printable(line)}" for line in text.splitlines() or [""])
