"""Removing results from a store, while other processes may read from it and write into it.

A record is never changed, so a reader gets all of it or learns that it is gone. Writers need no lock: who
has stored an answer looks afterwards whether everything that it names is there, and stores again what is not
(`engine.recording`). A record that others may name is therefore first renamed, then all answers that were
stored meanwhile are read, and only if none of them names it, it is deleted. Of a writer and a remover, at
least one sees what the other has done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sa2va_tools import atomic
from sa2va_tools.errors import RequestError, StoreError
from sa2va_tools.store import files, handles
from sa2va_tools.store.inventory import (
    StoredFile,
    list_call_files,
    list_files,
    list_leftovers,
    list_plain_files,
)
from sa2va_tools.store.records import AnswerRecord
from sa2va_tools.store.store import Store

_MAX_KNOWN = 5
"""Handles that an error names."""
_LEFTOVER_AGE_S = 24 * 3600
"""Unfinished files that are older belong to processes that were killed."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What is, or would be, removed."""

    answers: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    """Masks that belong to no other answer."""
    media: tuple[str, ...] = ()
    """Images and videos that no other answer is about: what is known of them, not the files themselves."""
    size_bytes: int = 0
    """On disk."""


@dataclass(frozen=True, slots=True)
class StoredAnswers:
    """All answers of a store that can be read, and their files."""

    files: tuple[StoredFile, ...]
    """Newest first, also those that are damaged."""
    records: dict[str, AnswerRecord]

    @classmethod
    def read(cls, store: Store) -> StoredAnswers:
        found = list_files(store.root, ("answer",))
        read = {file.handle: _read_answer(store, file.handle) for file in found}
        return cls(tuple(found), {name: record for name, record in read.items() if record is not None})

    def references(self, names: Collection[str]) -> set[str]:
        """The masks and media that these answers name."""
        chosen = [self.records[name] for name in names if name in self.records]
        masks = {mask for record in chosen for mask in record.mask_handles}
        return masks | {record.media_handle for record in chosen if record.media_handle is not None}


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """The files to remove, in this order: answers first, so that no answer lacks what it names."""

    answers: tuple[StoredFile, ...] = ()
    masks: tuple[StoredFile, ...] = ()
    media: tuple[StoredFile, ...] = ()
    plain: tuple[Path, ...] = ()
    """Bytes of media that the store holds itself, and pictures of results."""
    known: frozenset[tuple[str, int]] = field(default=frozenset(), repr=False)
    """The answers that were read for this plan, with the time when they were stored."""

    def summarize(self) -> Removal:
        listed = (*self.answers, *self.masks, *self.media)
        size = sum(file.size_bytes for file in listed) + sum(map(_size, self.plain))
        return Removal(_names(self.answers), _names(self.masks), _names(self.media), size)


def plan_removal(
    store: Store,
    names: Sequence[str] = (),
    *,
    before_ns: int | None = None,
    may_remove: Callable[[AnswerRecord | None], bool] = lambda record: True,
) -> RemovalPlan:
    """What has to be removed for these handles to be gone, or all that was stored before a time.

    A `media:` handle stands for all results about that image or video. `may_remove` is asked for each answer
    that is chosen by its age, and with None for records that belong to no answer. UnknownHandleError for a
    handle that is not in the store, RequestError for a mask that belongs to an answer. Removes nothing.
    """
    answers = StoredAnswers.read(store)
    _check_names(store, names, answers)
    doomed = {name for name in names if handles.parse_kind(name) == "answer"}
    doomed |= {name for name, record in answers.records.items() if record.media_handle in names}
    loose = set(names)
    unused = _list_unused(store, answers)
    if any(handles.parse_kind(name) == "media" for name in names):
        loose |= {file.handle for file in unused if _find_media(store, file.handle) in names}
    if before_ns is not None:
        old = [file.handle for file in answers.files if file.modified_ns < before_ns]
        doomed |= {name for name in old if may_remove(answers.records.get(name))}
        if may_remove(None):
            loose |= {file.handle for file in unused if file.modified_ns < before_ns}
    kept = answers.references([file.handle for file in answers.files if file.handle not in doomed])
    candidates = (answers.references(doomed) | loose) - kept
    media = _pick(store, "media", candidates)
    plain = _find_uploads(store, media) | _find_calls(store, doomed)
    if before_ns is not None and may_remove(None):
        used = _find_uploads(store, _pick(store, "media", kept))
        plain |= set(list_plain_files(store.root, before_ns)) - used
    return RemovalPlan(
        answers=tuple(file for file in answers.files if file.handle in doomed),
        masks=_pick(store, "mask", candidates),
        media=media,
        plain=tuple(sorted(plain)),
        known=frozenset((file.handle, file.modified_ns) for file in answers.files),
    )


def remove_planned(store: Store, plan: RemovalPlan) -> Removal:
    """Remove what was planned, except what somebody has stored or used again since then. Also removes what
    killed processes have left. StoreError if the disk refuses; what was removed before stays removed."""
    answers = [file for file in plan.answers if file.is_unchanged and _unlink(file.path)]
    masks = _remove_unused(store, plan, plan.masks)
    media = _remove_unused(store, plan, plan.media)
    gone = {file.handle for file in media}
    # Whoever has used one of the media again meanwhile needs its bytes.
    plain = plan.plain if gone == {file.handle for file in plan.media} else ()
    sizes = {path: _size(path) for path in plain}
    size = sum(size for path, size in sizes.items() if _unlink(path))
    for path in list_leftovers(store.root, time.time_ns() - _LEFTOVER_AGE_S * 10**9):
        _unlink(path)
    size += sum(file.size_bytes for file in (*answers, *masks, *media))
    return Removal(_names(answers), _names(masks), _names(media), size)


def _remove_unused(store: Store, plan: RemovalPlan, wanted: Iterable[StoredFile]) -> list[StoredFile]:
    """Remove the files that no answer names by now. If that is broken off, what is left is put back."""
    aside: list[tuple[StoredFile, Path]] = []
    removed = []
    try:
        for file in wanted:
            moved = atomic.make_temporary_path(file.path.parent)
            aside.append((file, moved))
            _move_aside(file, moved)
        now = StoredAnswers.read(store)
        new = [file.handle for file in now.files if (file.handle, file.modified_ns) not in plan.known]
        used = now.references(new)
        for file, moved in aside:
            if file.handle not in used and _unlink(moved):
                removed.append(file)
    finally:
        for file, moved in aside:
            _move_back(moved, file.path)
    return removed


def _move_aside(file: StoredFile, moved: Path) -> None:
    """Rename the file so that no one finds it, unless it is gone, or was stored again since it was listed."""
    if not file.is_unchanged:
        return
    try:
        file.path.rename(moved)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _removal_error(file.path, error) from error
    if moved.stat().st_mtime_ns != file.modified_ns:
        _move_back(moved, file.path)


def _move_back(moved: Path, path: Path) -> None:
    """Put the file back if it is still there. Another process may have stored the same record again, whose
    content is the same."""
    try:
        moved.replace(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _removal_error(path, error) from error


def _unlink(path: Path) -> bool:
    """Whether the file was there to be removed."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _removal_error(path, error) from error
    return True


def _check_names(store: Store, names: Sequence[str], answers: StoredAnswers) -> None:
    present = {file.handle for file in (*answers.files, *list_files(store.root, ("mask", "media")))}
    for name in names:
        kind = handles.parse_kind(name)
        if kind is None:
            handles.parse_id(name, "answer")  # raises
        elif name not in present:
            raise store.make_unknown_error(name, kind)
        holders = [each for each, record in answers.records.items() if name in record.mask_handles]
        if kind == "mask" and not set(holders) <= set(names):
            raise RequestError(
                f"{name} is a part of {', '.join(holders)}; masks are removed with their answer.",
                hint=f"Remove {holders[0]}, which removes all its masks that no other answer has.",
            )


def _list_unused(store: Store, answers: StoredAnswers) -> list[StoredFile]:
    """Masks and media that no answer names."""
    used = answers.references([file.handle for file in answers.files])
    return [file for file in list_files(store.root, ("mask", "media")) if file.handle not in used]


def _find_media(store: Store, name: str) -> str | None:
    """The media of a mask; None if that cannot be read, or for another handle."""
    if handles.parse_kind(name) == "mask":
        with suppress(StoreError, RequestError):
            return store.mask_media(name)
    return None


def _read_answer(store: Store, handle: str) -> AnswerRecord | None:
    """None for a damaged record, and for one that was removed meanwhile."""
    with suppress(StoreError, RequestError):
        return store.get_answer(handle)
    return None


def _pick(store: Store, kind: handles.Kind, wanted: Collection[str]) -> tuple[StoredFile, ...]:
    return tuple(file for file in list_files(store.root, (kind,)) if file.handle in wanted)


def _find_uploads(store: Store, media: Iterable[StoredFile]) -> set[Path]:
    """The bytes of these media that the store holds itself."""
    places: set[Path] = set()
    for name in {file.handle for file in media}:
        with suppress(StoreError, RequestError):  # a damaged record: its places are unknown
            places |= set(store.media_paths(name))
    return {path for path in list_plain_files(store.root) if path in places}


def _find_calls(store: Store, answers: Collection[str]) -> set[Path]:
    """The notes that these were the answers to some calls."""
    return {path for path in list_call_files(store.root) if files.read_call_answer(path) in answers}


def _names(group: Iterable[StoredFile]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(file.handle for file in group))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _removal_error(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The store cannot remove {path}: {error.strerror or error}.",
        hint="Check the permissions of the store's folder, and that no other program uses its files.",
    )
