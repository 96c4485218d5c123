"""The page of results, on which each size and device has a section."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import tables
from sa2va_tools.atomic import write_bytes

_TITLE = "# What was measured"
_INTRO = (
    "Written by `make bench` (see `benchmarks/`), a section for each size and device. Ratios compare runs "
    "of one call of it on the same machine; absolute numbers hold for that machine alone. Nothing "
    "here says how good answers are: for that see the model card."
)
_SECTION_START = re.compile(r"^(?=## )", re.MULTILINE)
_TABLES: dict[str, Callable[[Any], list[str]]] = {
    "propagation": tables.propagation_tables,
    "encoder": tables.encoder_table,
    "attention": tables.attention_table,
    "precision": tables.precision_table,
    "rounding": tables.rounding_table,
    "first_tokens": tables.first_tokens_table,
    "expressions": tables.expressions_table,
    "scaling": tables.scaling_tables,
    "long_video": tables.long_video_table,
}
"""What is measured, in the order of the page."""


def write_report(results: Mapping[str, Any], *, picture: str | None = None) -> str:
    """The section of one run. What was not measured has no table; `picture` is the file of the curves."""
    parts = [f"## {results['title']}", _list_facts(results["machine"])]
    if results.get("quick"):
        parts.append("Reduced run (`--quick`): it shows that everything works, and little more.")
    for name, make_tables in _TABLES.items():
        if name in results:
            parts += make_tables(results[name])
        if name == "scaling" and name in results and picture is not None:
            parts.append(f"![Time and memory over frames, objects and calls]({picture})")
    return "\n\n".join(parts) + "\n"


def update_page(page: Path, section: str) -> None:
    """Put the section into the page, in the place of the one with the same heading or at the end."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    sections = [part for part in _SECTION_START.split(old) if part.startswith("## ")]
    titles = [part.partition("\n")[0] for part in sections]
    title = section.partition("\n")[0]
    if title in titles:
        sections[titles.index(title)] = section
    else:
        sections.append(section)
    text = "\n\n".join([_TITLE, _INTRO, *(part.strip() for part in sections)]) + "\n"
    write_bytes(page, text.encode())


def _list_facts(machine: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in machine.items())
