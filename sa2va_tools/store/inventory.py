"""What files a store has: records of every kind and format, and files that were passed as bytes. Reads no
content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sa2va_tools import atomic
from sa2va_tools.store import files, handles
from sa2va_tools.store.handles import Kind

LAYOUT = "v3"
LAYOUTS = (LAYOUT, "v2")
"""Folders of the present format and of the earlier one, in the order in which they are searched."""
UPLOADS = "uploads"
"""The folder of files that were passed as bytes."""
VIEWS = "views"
"""The folder of pictures that were drawn of results."""
CALLS = f"{LAYOUT}/call"
"""The folder of the files that say which answer a call had."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A record's file as it was when it was listed."""

    handle: str
    path: Path
    size_bytes: int
    modified_ns: int

    @property
    def is_unchanged(self) -> bool:
        """Whether nobody has stored the same content again since it was listed. False if it is gone."""
        try:
            return self.path.stat().st_mtime_ns == self.modified_ns
        except OSError:
            return False


def kind_folder(root: Path, kind: Kind, layout: str = LAYOUT) -> Path:
    """The folder of the records of one kind."""
    return root / layout / kind


def list_files(root: Path, kinds: Iterable[Kind] = handles.KINDS) -> list[StoredFile]:
    """The records of these kinds, newest first. StoreError if a folder cannot be read."""
    found: list[StoredFile] = []
    for kind in kinds:
        for layout in LAYOUTS:
            found += _iter_folder(kind_folder(root, kind, layout), kind)
    return sorted(found, key=lambda file: (-file.modified_ns, file.handle))


def list_plain_files(root: Path, before_ns: int | None = None) -> list[Path]:
    """Files in the store that are no records: uploads, and with a time also pictures of results and notes
    about calls, but only what was written before it. StoreError if a folder cannot be read."""
    found = []
    for folder in (UPLOADS,) if before_ns is None else (UPLOADS, VIEWS, CALLS):
        for path in _iter_entries(root / folder):
            with suppress(FileNotFoundError):  # it was deleted meanwhile
                if path.is_file() and (before_ns is None or path.stat().st_mtime_ns < before_ns):
                    found.append(path)
    return found


def list_call_files(root: Path) -> list[Path]:
    """The files that say which answer a call had. StoreError if their folder cannot be read."""
    return [path for path in _iter_entries(root / CALLS) if path.name.endswith(files.SUFFIX)]


def list_leftovers(root: Path, before_ns: int) -> list[Path]:
    """Unfinished files of processes that were killed: those that nothing has happened to since this time."""
    folders = [kind_folder(root, kind, layout) for kind in handles.KINDS for layout in LAYOUTS]
    folders += [root / name for name in (UPLOADS, VIEWS, CALLS)]
    found = []
    for path in (path for folder in folders for path in _iter_entries(folder)):
        with suppress(FileNotFoundError):  # its process has finished it meanwhile
            status = path.stat()
            # Renaming a file changes the second of these times only.
            touched_ns = max(status.st_mtime_ns, status.st_ctime_ns)
            if path.name.startswith(atomic.TEMPORARY_PREFIX) and touched_ns < before_ns:
                found.append(path)
    return found


def _iter_folder(folder: Path, kind: Kind) -> Iterator[StoredFile]:
    for path in _iter_entries(folder):
        handle = f"{kind}:{path.name.removesuffix(files.SUFFIX)}"
        if path.name.endswith(files.SUFFIX) and handles.parse_kind(handle):
            with suppress(FileNotFoundError):  # it was deleted meanwhile
                status = path.stat()
                yield StoredFile(handle, path, status.st_size, status.st_mtime_ns)


def _iter_entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except FileNotFoundError:  # nothing of this kind was ever written
        return
    except OSError as error:
        raise files.access_error(folder, error) from error
