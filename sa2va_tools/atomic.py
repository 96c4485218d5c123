"""Files that appear whole or not at all. Knows nothing of what is in them.

A temporary file is written beside the target, flushed to the disk and moved over it, so that a
crash, a full disk or a second writer never leaves half a file under the target's name.
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
    """Write or replace the file. StoreError when the disk refuses (read-only, full, no folder)."""
    with new_file(path) as file:
        file.write(data)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A temporary file to write; it becomes `path`, or takes its place, when the block ends, and vanishes
    when the block raises.

    StoreError when the disk refuses (read-only, full, no folder).
    """
    temporary = _beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with suppress(OSError):  # where the folder cannot be reached, there is nothing to remove
            temporary.unlink(missing_ok=True)


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill; when the block ends its entries move into `folder`, each in the place of
    what has its name, and when the block raises nothing there has changed. Makes `folder`.

    StoreError when the disk refuses.
    """
    temporary = folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for entry in sorted(temporary.iterdir()):
            target = folder / entry.name
            if target.is_dir() and not target.is_symlink():
                target.replace(temporary / f"{TEMPORARY_PREFIX}{entry.name}")  # to go with it
            entry.replace(target)
    except OSError as error:
        raise _refused(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_folder(path: Path, *, may_replace: re.Pattern[str]) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path` when the block ends, and vanishes when the block
    raises. An older folder at `path` is replaced, if the names of all that it holds match `may_replace`.

    StoreError when `path` holds other things, or when the disk refuses.
    """
    temporary = _beside(path)
    try:
        _check_replaceable(path, may_replace)
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(path: Path, may_replace: re.Pattern[str]) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise StoreError(f"{path} is a file; a folder is to be written there.", hint="Choose another folder.")
    foreign = next((entry.name for entry in path.iterdir() if not may_replace.fullmatch(entry.name)), None)
    if foreign is not None:
        raise StoreError(
            f"The folder {path} holds other files ({foreign!r}), which would be lost.",
            hint="Choose a new or empty folder.",
        )


def _beside(path: Path) -> Path:
    """A name that nobody else uses, on the same file system."""
    return path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"Cannot write {path}: {error.strerror or error}.",
        hint="Check that the folder exists, is writable and has free space, or choose another one.",
    )
