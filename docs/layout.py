"""Writes the list of modules in ARCHITECTURE.md: the first sentence of every docstring."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ARCHITECTURE.md"
FOLDERS = ("sa2va_tools", "server/sa2va_server", "integrations/langchain_sa2va")
ORDER = (
    *("", "media", "model", "masks", "store", "engine", "tools", "testing"),
    *("training", "evaluation", "nano"),
)
_OPEN, _CLOSE = "```text\n", "```"
_COLUMN = 28


def list_modules() -> str:
    """One line per module, package by package, in the direction in which data flows."""
    lines: list[str] = []
    for folder in FOLDERS:
        files = [f for f in sorted((ROOT / folder).rglob("*.py")) if f.read_text(encoding="utf-8").strip()]
        packages: dict[str, list[Path]] = {}
        for file in files:
            packages.setdefault(file.parent.relative_to(ROOT / folder).as_posix().strip("."), []).append(file)
        for name in sorted(packages, key=_place):
            lines.append(f"{folder}/{name}/" if name else f"{folder}/")
            lines += [f"  {file.name:<{_COLUMN}}{_first_sentence(file)}" for file in packages[name]]
    return "\n".join(lines) + "\n"


def _place(name: str) -> tuple[int, str]:
    first = name.split("/")[0]
    return (ORDER.index(first) if first in ORDER else len(ORDER), name)


def _first_sentence(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]


def update_page(page: str) -> str:
    """The page with a new list of modules."""
    before, rest = page.split(_OPEN, 1)
    return before + _OPEN + list_modules() + _CLOSE + rest.split(_CLOSE, 1)[1]


if __name__ == "__main__":
    PAGE.write_text(update_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
