"""Results as lines of text for people at a terminal. Knows no engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sa2va_tools.printable import make_printable
from sa2va_tools.tools import outputs
from sa2va_tools.tools.reporting import format_suspects

_MAX_FRAMES = 8
_FOUND = {True: "found    ", False: "not found"}


def format_result(result: outputs.Traced | None) -> list[str]:
    """What a tool returned. TypeError for a tool without structured content."""
    match result:
        case outputs.DescribeResult():
            body = [_indent(result.text)]
        case outputs.MasksResult():
            body = _format_table(result.masks)
        case outputs.GroundResult():
            body = [_indent(result.text), *_format_table(result.masks)]
        case outputs.CaptionsResult():
            body = [line for region in result.regions for line in _format_caption(region)]
        case _:
            raise TypeError(f"{type(result).__name__} cannot be shown as text")
    where = (
        f", frame {result.frame_index}"
        if isinstance(result, outputs.CaptionsResult) and result.media.fps is not None
        else ""
    )
    origin = f"{_format_provenance(result.provenance)} Whole result: {result.handle}"
    return [format_media(result.media) + where, *body, origin, *format_warnings(result.warnings)]


def format_rows(source: str, result: outputs.Traced) -> list[str]:
    """What a tool returned about one of several sources: a row per mask or region, or the answer below it."""
    match result:
        case outputs.MasksResult() | outputs.GroundResult() if result.masks:
            masks = result.masks
            width = max(len(make_printable(mask.label)) for mask in masks)
            rows = [format_row(source, _FOUND[mask.found], _format_mask(mask, width)) for mask in masks]
        case outputs.CaptionsResult():
            rows = [
                format_row(source, region.label, region.handle or "", region.text)
                for region in result.regions
            ]
        case _:
            rows = [format_row(source, "no masks" if isinstance(result, outputs.GroundResult) else "")]
    text: list[str] = [_indent(result.text)] if isinstance(result, outputs.Answered) else []
    return [*(f"{row}  {result.handle}" for row in rows), *text]


def format_row(*cells: str) -> str:
    """A row of a table; empty cells are left out."""
    return "  ".join(make_printable(cell) for cell in cells if cell)


def format_files(files: Mapping[str, str]) -> list[str]:
    """The files that were written: kind and path."""
    width = max(map(len, files), default=0)
    return ["Written:", *(f"  {kind:<{width}}  {make_printable(path)}" for kind, path in files.items())]


def format_media(media: outputs.MediaOut) -> str:
    """Name, kind, size, length and handle of an image or video."""
    facts = [media.kind, f"{media.size_wh[0]}x{media.size_wh[1]}"]
    if media.duration_s is not None:
        facts += [f"{media.frames} frame{'' if media.frames == 1 else 's'}", f"{media.duration_s:.2f} s"]
    return f"{make_printable(media.name)}  {', '.join(facts)}  {media.handle}"


def format_warnings(warnings: Iterable[str]) -> list[str]:
    """One line per warning."""
    return [f"Warning: {make_printable(warning)}" for warning in warnings]


def _format_table(masks: Sequence[outputs.MaskOut]) -> list[str]:
    """One line per mask: found or not, label, handle, score, when and where."""
    if not masks:
        return ["  no masks"]
    width = max(len(make_printable(mask.label)) for mask in masks)
    return [f"  {_FOUND[mask.found]}  {_format_mask(mask, width)}" for mask in masks]


def _format_mask(mask: outputs.MaskOut, width: int) -> str:
    label = f"{make_printable(mask.label):<{width}}"
    if not mask.found:
        handle = f"  ({mask.handle})" if mask.handle else ""
        return f"{label}  {make_printable(mask.reason or 'no reason given')}{handle}"
    parts = [label, mask.handle or "", f"score {mask.score:.2f}"]
    spans = mask.visible_spans or []
    if spans:
        frames = ", ".join(f"{span.start_frame}-{span.end_frame}" for span in spans)
        parts.append(f"frames {frames} ({spans[0].start_s:.2f}-{spans[-1].end_s:.2f} s)")
    if mask.box_xyxy is not None:
        edges = ", ".join(f"{edge:g}" for edge in mask.box_xyxy)
        parts.append(f"box [{edges}]" + (f" at frame {mask.frame}" if spans else ""))
    if mask.duplicate_of is not None:
        parts.append(f"same object as {mask.duplicate_of}")
    if mask.suspects:
        parts.append(format_suspects(mask))
    return "  ".join(parts)


def _format_caption(region: outputs.CaptionOut) -> list[str]:
    label = f"  {make_printable(region.label)}  {region.handle or ''}".rstrip()
    return [label, f"  {_indent(region.text)}"]


def _format_provenance(provenance: outputs.ProvenanceOut) -> str:
    frames = provenance.llm_frames
    listed = ", ".join(map(str, frames[:_MAX_FRAMES])) + (", …" if len(frames) > _MAX_FRAMES else "")
    shown = f"; saw frames {listed}" if len(frames) > 1 else ""
    checkpoint = make_printable(provenance.checkpoint)
    took = f"{provenance.seconds:.2f} s on {provenance.device}"
    origin = ", from the store" if provenance.from_store else ""
    return f"Model {checkpoint} ({provenance.mode}{shown}), {took}{origin}."


def _indent(text: str) -> str:
    return "\n".join(f"  {make_printable(line)}" for line in text.expandtabs(4).splitlines() or [""])
