"""A cheap look at a file, or at a folder of frames, that tells whether it changed since."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sa2va_tools.media.folders import is_frame


def stamp_of(path: Path) -> str:
    """Text that differs once the file (or a frame in the folder; other files do not count) was changed, by
    size and time of modification. OSError when nothing can be read there."""
    if not path.is_dir():
        return _facts(path)
    lines = sorted(f"{entry.name} {_facts(entry)}" for entry in path.iterdir() if is_frame(entry))
    return hashlib.sha256("\n".join(lines).encode("utf-8", errors="surrogateescape")).hexdigest()


def _facts(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"
