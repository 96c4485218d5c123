"""Which weights a checkpoint has: a short hash for people, and a list of its files, which tells more. Imports
no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sa2va_tools.errors import CheckpointError

_HASHED_BYTES = 65536


def compute_revision(folder: Path, files: Sequence[Path]) -> str:
    """12 hex digits of a hash of the config and of the sizes, beginnings and ends of the weight files."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(_HASHED_BYTES))
            opened.seek(-min(_HASHED_BYTES, size), 2)
            digest.update(opened.read())
    return digest.hexdigest()[:12]


def describe_files(place: Path) -> list[list[str | int]]:
    """Name, bytes and time of modification (nanoseconds) of a file, or of the files in a folder, sorted.
    CheckpointError if they cannot be read."""
    try:
        files = sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else [place]
        statuses = [(file.name, file.stat()) for file in files]
    except OSError as error:
        raise CheckpointError(
            f"{place} cannot be read: {error.strerror or error}.", hint="Check its permissions."
        ) from error
    return [[name, status.st_size, status.st_mtime_ns] for name, status in statuses]
