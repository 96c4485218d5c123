"""Pictures of results, kept as files for readers whose client does not show them: the newest ones, up to a
bound. Knows no handles."""

from __future__ import annotations

import re
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from sa2va_tools import atomic
from sa2va_tools.errors import StoreError

MAX_FILES = 200
MAX_BYTES = 32 * 2**20
_OURS = re.compile(rf"[0-9a-f]{{24}}\.\w+|{re.escape(atomic.TEMPORARY_PREFIX)}\w+")


def save_picture(folder: Path, data: bytes, suffix: str) -> Path:
    """Write a picture under a name derived from its content, and remove the oldest pictures beyond the bound,
    never this one. StoreError if the disk refuses."""
    path = folder / f"{sha256(data).hexdigest()[:24]}{suffix}"
    atomic.write_bytes(path, data)
    try:
        _remove_oldest(path, len(data))
    except OSError as error:
        raise StoreError(
            f"Old pictures in {folder} cannot be removed: {error.strerror or error}.",
            hint="Check the permissions of that folder.",
        ) from error
    return path


def _remove_oldest(kept: Path, size: int) -> None:
    folder = kept.parent
    count = 1
    for path, bytes_ in _list_newest_first(folder):
        if path == kept:
            continue
        count += 1
        size += bytes_
        if count > MAX_FILES or size > MAX_BYTES:
            with suppress(
                PermissionError
            ):  # Windows refuses while somebody looks at it; the next one tries again
                path.unlink(missing_ok=True)


def _list_newest_first(folder: Path) -> list[tuple[Path, int]]:
    found = []
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            with suppress(FileNotFoundError):  # another process removed it
                status = path.stat()
                found.append((status.st_mtime_ns, path, status.st_size))
    return [(path, size) for _, path, size in sorted(found, reverse=True)]
