"""How fast which model was on this machine, kept from one process to the next: the first estimate of each."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sa2va_tools import atomic
from sa2va_tools.errors import StoreError

Walk = tuple[int, int, float]
_NAME = "speed.json"
_MOST = 32
"""Models on machines, of which the last ones are kept."""


class SpeedNotes:
    """A file beside the records of a store. What is no such file counts as none, and is replaced: estimates
    are no reason for a job to fail."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def of(self, model: str) -> list[Walk]:
        """Encoded frames, followed objects × frames and seconds of its last walks here, oldest first."""
        return self._read().get(_key(model), [])

    def keep(self, model: str, walks: Iterable[Walk]) -> None:
        """In the place of what was kept of it."""
        notes = self._read()
        notes.pop(_key(model), None)
        notes[_key(model)] = list(walks)
        document = dict(list(notes.items())[-_MOST:])
        with suppress(StoreError, OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            atomic.write_bytes(self._path, json.dumps(document).encode("ascii"))

    def _read(self) -> dict[str, list[Walk]]:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                str(key): [(int(encoded), int(followed), float(took)) for encoded, followed, took in walks]
                for key, walks in document.items()
            }
        except (OSError, ValueError, TypeError, AttributeError, OverflowError):
            return {}


def _key(model: str) -> str:
    return f"{platform.node()} {model}"
