"""Where the recorded outputs of the published code lie, and which of them are there.

A small set is part of the repository (tests/golden). More is taken from `../shared/golden` beside the
checkout, where that exists, and from the folders that SA2VA_GOLDEN names (separated as in PATH).
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent / "golden"
BESIDE = Path(__file__).parents[2] / "shared" / "golden"


def golden_roots() -> list[Path]:
    """The folders that hold golden data, the repository's own first."""
    named = [Path(name) for name in os.environ.get("SA2VA_GOLDEN", "").split(os.pathsep) if name]
    for folder in named:
        if not folder.is_dir():
            raise ValueError(f"SA2VA_GOLDEN names {str(folder)!r}, which is not a folder.")
    beside = [BESIDE] if BESIDE.is_dir() else []
    return list(dict.fromkeys(root.resolve() for root in (HERE, *beside, *named)))


def find_golden(relative: str) -> Path | None:
    """The first file or folder of this name under any root."""
    return next((root / relative for root in golden_roots() if (root / relative).exists()), None)


def golden_cases() -> Iterator[tuple[str, Path, str]]:
    """(id, folder, name) of every recorded case; a case that several roots hold comes once."""
    known: dict[str, dict] = {}
    for root, folder in _folders():
        for name, facts in json.loads((folder / "cases.json").read_text(encoding="utf-8")).items():
            case_id = f"{folder.relative_to(root).as_posix()}-{name}"
            if known.get(case_id) == facts:
                continue
            if case_id in known:
                case_id = f"{root.name}-{case_id}"
            known[case_id] = facts
            yield case_id, folder, name


def golden_checkpoints() -> dict[str, Path]:
    """The checkpoints of all cases by name; one that several roots hold comes once."""
    found: dict[str, Path] = {}
    for root, folder in _folders():
        name, checkpoint = folder.relative_to(root).as_posix(), folder / "checkpoint"
        if name in found:
            if _same_files(found[name], checkpoint):
                continue
            name = f"{root.name}-{name}"
        found[name] = checkpoint
    return found


def _folders() -> Iterator[tuple[Path, Path]]:
    """Each root with each of its folders that hold cases."""
    for root in golden_roots():
        for file in sorted(root.rglob("cases.json")):
            yield root, file.parent


def _same_files(first: Path, second: Path) -> bool:
    names = {file.name for folder in (first, second) for file in folder.iterdir()}
    return set(filecmp.cmpfiles(first, second, names, shallow=False)[0]) == names
