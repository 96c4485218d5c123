"""Writes the picture of the layout in ARCHITECTURE.md from the first sentence of every module."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ARCHITECTURE.md"
FOLDERS = ("sa2va_tools", "server/sa2va_server", "integrations/langchain_sa2va")
ORDER = ("", "media", "model", "masks", "store", "engine", "tools", "testing", "training", "evaluation")
_OPEN, _CLOSE = "```text\n", "```"
_COLUMN = 26


def picture() -> str:
    """One line per module, room by room, in the direction in which data flows."""
    lines: list[str] = []
    for folder in FOLDERS:
        files = [f for f in sorted((ROOT / folder).rglob("*.py")) if f.read_text(encoding="utf-8").strip()]
        rooms: dict[str, list[Path]] = {}
        for file in files:
            rooms.setdefault(file.parent.relative_to(ROOT / folder).as_posix().strip("."), []).append(file)
        for room in sorted(rooms, key=_place):
            lines.append(f"{folder}/{room}/" if room else f"{folder}/")
            lines += [f"  {file.name:<{_COLUMN}}{_first_sentence(file)}" for file in rooms[room]]
    return "\n".join(lines) + "\n"


def _place(room: str) -> tuple[int, str]:
    first = room.split("/")[0]
    return (ORDER.index(first) if first in ORDER else len(ORDER), room)


def _first_sentence(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]


def updated(page: str) -> str:
    """The page with a fresh picture."""
    before, rest = page.split(_OPEN, 1)
    return before + _OPEN + picture() + _CLOSE + rest.split(_CLOSE, 1)[1]


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
