"""Files that appear whole or not at all, and never in the place of somebody else's. Knows nothing of their
content.

A temporary file is written next to the target, flushed to the disk and moved into place, so that a crash, a
full disk or a second writer never leaves half a file under the target's name. `remove_unfinished` deletes the
temporary files of this process, for a process that is told to stop.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sa2va_tools.errors import Sa2vaError, StoreError

TEMPORARY_PREFIX = ".partial-"
IsOwn = Callable[[Path, str], bool]
"""Whether the file or folder at a path, which had this name in its folder, is one that may be replaced."""
_unfinished: set[Path] = set()
_is_ending = False


def write_bytes(path: Path, data: bytes, *, is_own: IsOwn | None = None) -> None:
    """Write or replace the file; see `create_file`."""
    with create_file(path, is_own=is_own) as file:
        file.write(data)


@contextmanager
def create_file(path: Path, *, is_own: IsOwn | None = None) -> Iterator[BinaryIO]:
    """A temporary file to write to. It becomes `path` when the block ends; it is deleted if the block raises.

    Without `is_own`, a file at `path` is replaced. With it, only one that is our own is replaced; otherwise
    StoreError is raised, and nothing is lost, even if that file appeared during the block. StoreError also
    if the disk refuses (read-only, full, no folder).
    """
    with _temporary(path.parent, path) as temporary:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if is_own is None:
            temporary.replace(path)
        else:
            with _temporary(path.parent, path) as older:
                _put_in_place(temporary, path, older, is_own)


@contextmanager
def update_folder(
    folder: Path,
    *,
    is_own: IsOwn = lambda path, name: True,
    find_stale: Callable[[Path], Iterable[str]] = lambda new: (),
) -> Iterator[Path]:
    """A temporary folder to fill. When the block ends, its entries move into `folder`, where each replaces
    what has its name, and what `find_stale`, which gets the temporary folder, names (paths in `folder`) is
    removed. All of this happens, or nothing: if the block or a move raises, `folder` is as before. Creates
    `folder` if necessary.

    Only what is our own, by `is_own`, is replaced or removed: something else with a new entry's name is a
    StoreError, something else with a stale name stays. StoreError if the disk refuses.
    """
    with _temporary(folder, folder) as temporary:
        older = temporary / TEMPORARY_PREFIX
        older.mkdir(parents=True)
        yield temporary
        entries = sorted(entry for entry in temporary.iterdir() if entry != older)
        stale = list(find_stale(temporary))
        with ExitStack() as undo:
            for number, entry in enumerate(entries):
                target, aside = folder / entry.name, older / str(number)
                undo.callback(_undo, entry, target, aside)
                _put_in_place(entry, target, aside, is_own)
            for number, name in enumerate(stale):
                target, aside = folder / name, older / f"stale-{number}"
                undo.callback(_undo, None, target, aside)
                _take_away(target, aside, is_own)
            undo.pop_all()


@contextmanager
def _temporary(folder: Path, target: Path) -> Iterator[Path]:
    """A path in `folder`; what is there when the block ends is deleted. Errors of the disk become StoreError
    about the target."""
    temporary = make_temporary_path(folder)
    _unfinished.add(temporary)
    if _is_ending:
        raise StoreError(f"Cannot write {target}: this program is ending.", hint="Start it again.")
    try:
        yield temporary
    except OSError as error:
        raise _write_error(target, error) from error
    finally:
        _delete(temporary)
        _unfinished.discard(temporary)


def remove_unfinished(*, finally_: bool = False) -> None:
    """Delete all temporary files and folders of this process. Whoever is still writing one of them fails;
    with `finally_`, also whoever begins one."""
    global _is_ending
    _is_ending = finally_
    for path in list(_unfinished):
        _delete(path)


def _put_in_place(temporary: Path, target: Path, aside: Path, is_own: IsOwn) -> None:
    """Move `temporary` to `target`. What is there is first moved to `aside`, and back if it is not our own.
    StoreError if something else is there."""
    if not _take_away(target, aside, is_own) and os.path.lexists(target):
        raise make_foreign_error(target)
    try:
        _move_to_free_name(temporary, target)
    except FileExistsError as error:  # it has just been created by somebody else
        raise make_foreign_error(target) from error


def _take_away(target: Path, aside: Path, is_own: IsOwn) -> bool:
    """Move what is our own to `aside`. False if there is nothing, or something that is not our own. It is
    judged again after it was moved, because until then somebody could exchange it."""
    try:
        if not is_own(target, target.name):
            return False
        target.rename(aside)
    except FileNotFoundError:
        return False
    if is_own(aside, target.name):
        return True
    _move_to_free_name(aside, target)
    return False


def _undo(entry: Path | None, target: Path, aside: Path) -> None:
    """Take a new entry out of its folder again, and put back what was there."""
    with suppress(OSError):  # the first error is the one to report
        if entry is not None and not os.path.lexists(entry):
            target.rename(entry)
        if os.path.lexists(aside):
            _move_to_free_name(aside, target)


def _move_to_free_name(source: Path, target: Path) -> None:
    """Rename, but never over something else: FileExistsError if there is something.

    Renaming would replace a file. A hard link cannot; where links are not possible, an empty file takes the
    name first.
    """
    if source.is_dir() and not source.is_symlink():
        if os.path.lexists(target):
            raise FileExistsError(target)
        source.rename(target)  # fails if a file, or a folder with something in it, has appeared
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        target.open("xb").close()
        source.replace(target)
    else:
        source.unlink()


def make_foreign_error(path: Path) -> StoreError:
    """The error for something at `path` that sa2va-tools did not write."""
    return StoreError(
        f"{path} was not written by sa2va-tools, or has been changed since; it would be overwritten.",
        hint="Choose another name or folder, or remove it first.",
    )


def make_temporary_path(folder: Path) -> Path:
    """A name in this folder, and so on the same file system, that nothing else uses."""
    return folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"


def _delete(path: Path) -> None:
    with suppress(OSError):  # if the folder cannot be reached, there is nothing to delete
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError) -> Sa2vaError:
    return StoreError(
        f"Cannot write {path}: {error.strerror or error}.",
        hint="Check that the folder exists, is writable and has free space, or choose another one.",
    )
