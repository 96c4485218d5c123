"""Files that appear whole or not at all. Knows nothing of their content.

A temporary file is written next to the target, flushed to the disk and moved over it, so that a crash, a full
disk or a second writer never leaves half a file under the target's name.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sa2va_tools.errors import StoreError

TEMPORARY_PREFIX = ".partial-"


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace the file. StoreError if the disk refuses (read-only, full, no folder)."""
    with create_file(path) as file:
        file.write(data)


@contextmanager
def create_file(path: Path) -> Iterator[BinaryIO]:
    """A temporary file to write to. It becomes `path`, or replaces it, when the block ends; it is deleted if
    the block raises.

    StoreError if the disk refuses (read-only, full, no folder).
    """
    temporary = _make_temporary_path(path.parent)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        with suppress(OSError):  # if the folder cannot be reached, there is nothing to delete
            temporary.unlink(missing_ok=True)


@contextmanager
def update_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill. When the block ends, its entries move into `folder`, where each replaces
    what has its name; if the block raises, nothing in `folder` has changed. Creates `folder` if necessary.

    StoreError if the disk refuses.
    """
    temporary = _make_temporary_path(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for entry in sorted(temporary.iterdir()):
            target = folder / entry.name
            if target.is_dir() and not target.is_symlink():
                # Deleted with the temporary folder.
                target.replace(temporary / f"{TEMPORARY_PREFIX}{entry.name}")
            entry.replace(target)
    except OSError as error:
        raise _write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def create_folder(path: Path, *, may_replace: re.Pattern[str]) -> Iterator[Path]:
    """A temporary folder to fill. It becomes `path` when the block ends; it is deleted if the block raises.
    An older folder at `path` is replaced if the names of all its entries match `may_replace`.

    StoreError if `path` contains other things or the disk refuses.
    """
    temporary = _make_temporary_path(path.parent)
    try:
        _check_replaceable(path, may_replace)
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(path: Path, may_replace: re.Pattern[str]) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise StoreError(f"{path} is a file, where a folder is to be written.", hint="Choose another folder.")
    foreign = next((entry.name for entry in path.iterdir() if not may_replace.fullmatch(entry.name)), None)
    if foreign is not None:
        raise StoreError(
            f"The folder {path} contains other files ({foreign!r}), which would be lost.",
            hint="Choose a new or empty folder.",
        )


def _make_temporary_path(folder: Path) -> Path:
    """A name in this folder, and so on the same file system, that nothing else uses."""
    return folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"


def _write_error(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"Cannot write {path}: {error.strerror or error}.",
        hint="Check that the folder exists, is writable and has free space, or choose another one.",
    )
