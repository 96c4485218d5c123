"""Stored results as lines of text, and as JSON documents. Imported when a command runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sa2va_server.cli.rle_json import add_rles
from sa2va_server.cli.text import format_media, format_result
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.engine.stored_results import StoredResult
from sa2va_tools.printable import make_printable
from sa2va_tools.run import Run
from sa2va_tools.store.handles import parse_kind
from sa2va_tools.store.removal import Removal
from sa2va_tools.tools.reporting import media_out
from sa2va_tools.tools.stored import stored_output

_MAX_SUBJECT = 60
_UNITS = ("B", "kB", "MB", "GB")


def format_results(found: Sequence[StoredResult]) -> list[str]:
    """A table: when, kind, size on disk, handle, file, and what it is about."""
    if not found:
        return ["No results."]
    rows = [
        (
            item.stored_at.astimezone().strftime("%Y-%m-%d %H:%M"),
            item.kind,
            format_bytes(item.size_bytes),
            item.handle,
            make_printable(item.media.name) if item.media else "?",
            make_printable(_describe_subject(item)),
        )
        for item in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        f"{row[0]}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:<{widths[3]}}  "
        f"{row[4]:<{widths[4]}}  {row[5]}".rstrip()
        for row in rows
    ]


def result_json(item: StoredResult) -> dict[str, Any]:
    """One entry of `sa2va list --json`."""
    return {
        "handle": item.handle,
        "kind": item.kind,
        "media": None if item.media is None else media_out(item.media).model_dump(exclude_none=True),
        "labels": list(item.labels),
        "not_found": list(item.missing),
        "question": item.question,
        "text": item.text,
        "stored_at": item.stored_at.isoformat(timespec="seconds"),
        "size_bytes": item.size_bytes,
    }


def show_handle(
    engine: Engine, handle: str, run: Run, *, with_rles: bool
) -> tuple[list[str], dict[str, Any]]:
    """A stored result as lines and as a document."""
    if parse_kind(handle) == "media":
        media = media_out(engine.find_media(handle, run=run))
        results = engine.list_results(media=handle, run=run)
        document = {
            "media": media.model_dump(exclude_none=True),
            "results": [item.handle for item in results],
        }
        return [format_media(media), *format_results(results)], document
    output = stored_output(engine.load_result(handle, run=run))
    document = output.as_dict() or {}
    if with_rles:
        add_rles(engine, document)
    return format_result(output.structured), document


def format_removal(removal: Removal, verb: str) -> str:
    """`Removed 2 results with 3 masks (1.2 MB).`"""
    parts = []
    if removal.answers:
        masks = f" with {_count(removal.masks, 'mask')}" if removal.masks else ""
        parts.append(f"{_count(removal.answers, 'result')}{masks}")
    elif removal.masks:
        parts.append(f"{_count(removal.masks, 'mask')} of no result")
    if removal.media and not removal.answers:
        parts.append(f"what is known of {_count(removal.media, 'image or video', 'images or videos')}")
    size = format_bytes(removal.size_bytes)
    return f"{verb} {' and '.join(parts) or ('nothing' if not removal.size_bytes else 'files')} ({size})."


def removal_json(removal: Removal) -> dict[str, Any]:
    """What `sa2va rm --json` prints."""
    return {
        "removed": [*removal.answers, *removal.masks, *removal.media],
        "size_bytes": removal.size_bytes,
    }


def format_bytes(size: int) -> str:
    """`532 B`, `1.2 MB`."""
    amount = float(size)
    unit = _UNITS[0]
    for unit in _UNITS:
        if amount < 1000 or unit == _UNITS[-1]:
            break
        amount /= 1000
    return f"{size} B" if unit == _UNITS[0] else f"{amount:.1f} {unit}"


def _describe_subject(item: StoredResult) -> str:
    """Labels, or the question and what was answered."""
    if item.kind in ("describe", "ground", "caption"):
        subject = item.text or item.question
    else:
        subject = ", ".join((*item.labels, *(f"{label} (not found)" for label in item.missing)))
    words = " ".join(subject.split())
    return words if len(words) <= _MAX_SUBJECT else f"{words[: _MAX_SUBJECT - 1]}…"


def _count(items: Sequence[str], one: str, several: str = "") -> str:
    return f"{len(items)} {one if len(items) == 1 else several or f'{one}s'}"
