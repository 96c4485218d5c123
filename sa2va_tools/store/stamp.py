"""Whether media files have changed: a cheap stamp (may give false alarms), a full comparison (certain)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sa2va_tools.media.folders import is_frame
from sa2va_tools.media.media import Media, hash_files
from sa2va_tools.run import Run


def compute_stamp(path: Path) -> str:
    """Text that differs if the file, or a frame in the folder, may have changed: its size, time of
    modification, and values that programs cannot reset. OSError if it cannot be read."""
    if not path.is_dir():
        return _describe_status(path)
    lines = sorted(f"{entry.name} {_describe_status(entry)}" for entry in path.iterdir() if is_frame(entry))
    return hashlib.sha256("\n".join(lines).encode("utf-8", errors="surrogateescape")).hexdigest()


def is_unchanged(media: Media, run: Run | None = None) -> bool:
    """Whether the same bytes are still in its files, all of which are read. True for media in memory. Raises
    OSError and MediaError if they cannot be read, CancelledError."""
    if media.path is None:
        return True
    if media.files and {entry for entry in media.path.iterdir() if is_frame(entry)} != set(media.files):
        return False
    return hash_files(media.path, media.files, run) == media.content_hash


def _describe_status(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
