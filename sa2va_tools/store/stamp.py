"""A cheap look at a file, or at a folder of frames, that tells whether it may have changed since; and a whole
one, that tells whether it did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from sa2va_tools.media.folders import is_frame
from sa2va_tools.media.media import Media, hash_of
from sa2va_tools.progress import unhindered


def stamp_of(path: Path) -> str:
    """Text that differs once the file (or a frame in the folder; other files do not count) may have been
    changed: by size, time of modification, and what no program can set back. OSError when nothing can be read
    there."""
    if not path.is_dir():
        return _facts(path)
    lines = sorted(f"{entry.name} {_facts(entry)}" for entry in path.iterdir() if is_frame(entry))
    return hashlib.sha256("\n".join(lines).encode("utf-8", errors="surrogateescape")).hexdigest()


def holds(media: Media, check: Callable[[], None] = unhindered) -> bool:
    """Whether the same bytes are still there. Reads all of them, and calls `check` meanwhile. OSError and
    MediaError when they cannot be read."""
    if media.files and {entry for entry in media.path.iterdir() if is_frame(entry)} != set(media.files):
        return False
    return hash_of(media.path, media.files, check) == media.content_hash


def _facts(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
