"""Media, masks and answers under short handles, on disk, across restarts.

Layout: `<root>/v3/<kind>/<id>.json.gz`, one immutable record per file, written whole or not at all. Equal
content has one handle, so writers in several processes need no lock. Records of format 2 (in `v2`) are still
read. `<root>/views` has the newest pictures of results. Nothing is removed unless somebody asks for it
(`removal`). Knows nothing about models or protocols.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sa2va_tools.errors import MediaError, MediaNotFoundError, StoreError, UnknownHandleError
from sa2va_tools.media.media import Media
from sa2va_tools.run import Run
from sa2va_tools.store import files, handles, records
from sa2va_tools.store.handles import Kind
from sa2va_tools.store.inventory import LAYOUT, LAYOUTS, kind_folder, list_files
from sa2va_tools.store.pictures import save_picture
from sa2va_tools.store.pieces import normalize_record
from sa2va_tools.store.records import AnswerRecord, Json, MaskRecord
from sa2va_tools.store.stamp import compute_stamp, is_unchanged
from sa2va_tools.wording import call, setting

_MAX_KNOWN = 5
"""Handles that the error for an unknown handle lists."""
_MAX_ELSEWHERE = 7
"""Older places that a media record has."""
_Record = TypeVar("_Record")


class Store:
    """Stores records under `root`, which the first write creates (for its owner only).

    Every method raises StoreError if the disk cannot be read or written, or if a file is not one of the
    store's records; `put_…` raises TypeError or ValueError if a record contains what JSON cannot (a NaN, an
    array); `get_…` raises UnknownHandleError for a handle that is not in the store and RequestError for a
    handle of another kind.
    """

    def __init__(self, root: Path, *, may_name: Callable[[str], bool] = lambda handle: True) -> None:
        """`may_name` says which handles errors may list, to callers who may not see all."""
        self.root = root
        self._may_name = may_name

    def put_media(self, media: Media) -> str:
        """`media:…`. The same content at another path has the same handle; both places are stored. Of media
        in memory only the description is stored. MediaNotFoundError if the file is gone."""
        try:
            stamp = None if media.path is None else compute_stamp(media.path)
        except OSError as error:
            raise _make_move_error(f"{media.path}", "cannot be read any more") from error
        return self._put("media", {"media": records.media_to_json(media), "stamp": stamp})

    def get_media(
        self, handle: str, allowed: Callable[[Path], bool] = lambda path: True, run: Run | None = None
    ) -> Media:
        """The media, at the newest of its places where the file is unchanged. Places that are not `allowed`
        are not accessed. MediaNotFoundError if all files moved or changed; CancelledError."""
        failure: MediaNotFoundError | None = None
        for media, stamp in self._get("media", handle, _read_places, run):
            if media.path is None:
                failure = failure or MediaNotFoundError(
                    f"{handle} was given as pixels in memory, which are no longer held.",
                    hint="Pass the array or image again; it gets the same handle.",
                )
                continue
            if not allowed(media.path):
                continue
            try:
                if compute_stamp(media.path) == stamp:
                    return media
                if is_unchanged(media, run):
                    with suppress(StoreError):  # the new stamp only saves reading the file once more
                        self.put_media(media)
                    return media
                problem = _make_move_error(f"{media.path} ({handle})", "has changed since it got that handle")
            except (OSError, MediaError):
                problem = _make_move_error(f"{media.path} ({handle})", "is no longer there")
            failure = failure or problem
        raise failure or _make_move_error(handle, "is not in a place that may be read")

    def media_paths(self, handle: str) -> tuple[Path, ...]:
        """The files that the media was given as, newest first; these are not accessed. Empty for media that
        was only given as pixels."""
        return tuple(media.path for media in self.recall_media(handle) if media.path is not None)

    def recall_media(self, handle: str) -> tuple[Media, ...]:
        """The media as it was stored, at each of its places, newest first. Its files are not accessed: they
        may be gone."""
        return tuple(media for media, _ in self._get("media", handle, _read_places))

    def put_mask(self, record: MaskRecord, run: Run | None = None) -> str:
        """`mask:…`; the same mask of the same media, made in the same way, has the same handle. Nothing is
        written if it raises CancelledError."""
        handles.parse_id(record.media_handle, "media")
        return self._put("mask", records.mask_to_json(record), run)

    def get_mask(self, handle: str, run: Run | None = None) -> MaskRecord:
        """The whole mask or track. Raises CancelledError."""
        return self._get("mask", handle, partial(records.mask_from_json, run=run), run)

    def mask_media(self, handle: str, run: Run | None = None) -> str:
        """The `media:` handle of a mask, without unpacking its track."""
        return self._get("mask", handle, lambda data: str(data["media_handle"]), run)

    def mask_label(self, handle: str, run: Run | None = None) -> str:
        """The label of a mask, without unpacking its track."""
        return self._get("mask", handle, lambda data: str(data["label"]), run)

    def put_answer(self, record: AnswerRecord) -> str:
        """`answer:…`; the same answer, made in the same way, has the same handle."""
        if record.media_handle is not None:
            handles.parse_id(record.media_handle, "media")
        for mask_handle in record.mask_handles:
            handles.parse_id(mask_handle, "mask")
        return self._put("answer", records.answer_to_json(record))

    def get_answer(self, handle: str) -> AnswerRecord:
        """The result of one call; its masks have handles of their own."""
        return self._get("answer", handle, records.answer_from_json)

    def save_view(self, image: bytes, suffix: str) -> Path:
        """The file of an encoded picture; it stays until many newer ones have been saved."""
        folder = self.root / "views"
        self._make_folder(folder)
        return save_picture(folder, image, suffix)

    def handles(self, kind: Kind | None = None) -> tuple[str, ...]:
        """Every handle in the store, or those of one kind; newest first."""
        kinds = handles.KINDS if kind is None else (kind,)
        return tuple(dict.fromkeys(file.handle for file in list_files(self.root, kinds)))

    def find_missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of these handles whose record is not (or no longer) in the store."""
        return tuple(name for name in dict.fromkeys(names) if not self._exists(name))

    def _exists(self, handle: str) -> bool:
        kind, _, name = handle.partition(":")
        known = next(each for each in handles.KINDS if each == kind)
        folders = (kind_folder(self.root, known, layout) for layout in LAYOUTS)
        return any((folder / f"{name}{files.SUFFIX}").is_file() for folder in folders)

    def _put(self, kind: Kind, record: Json, run: Run | None = None) -> str:
        # The content that is hashed must be exactly the content that is read back and checked.
        record = normalize_record(record)
        digest = files.compute_record_digest(kind, record, run)
        self._make_folder(self._folder(kind))
        for length in handles.ID_LENGTHS:
            name = f"{digest[:length]}{files.SUFFIX}"
            current, older = (
                _read_usable(self._folder(kind, layout) / name, kind, run) for layout in LAYOUTS
            )
            existing = older if current is None else current
            if existing is not None and files.compute_record_digest(kind, existing, run) != digest:
                continue  # other content whose digest begins alike
            if kind == "media":
                record["elsewhere"] = [] if existing is None else _list_other_places(record, existing)
            path = self._folder(kind) / name
            if current is None or (kind == "media" and current != record) or not _touch(path):
                files.write_record(path, kind, record, run)
            return f"{kind}:{digest[:length]}"
        raise AssertionError("two contents with one SHA-256")

    def _get(
        self, kind: Kind, handle: str, from_json: Callable[[Json], _Record], run: Run | None = None
    ) -> _Record:
        name = f"{handles.parse_id(handle, kind)}{files.SUFFIX}"
        for layout in LAYOUTS:
            path = self._folder(kind, layout) / name
            try:
                return from_json(files.read_record(path, kind, run))
            except FileNotFoundError:
                continue
            except files.MALFORMED as error:
                raise files.unreadable_error(path, "its fields are not the expected ones") from error
        raise self.make_unknown_error(handle, kind)

    def make_unknown_error(self, handle: str, kind: Kind) -> UnknownHandleError:
        """The error for a handle that is not in the store; it lists the newest of its kind."""
        known = islice(filter(self._may_name, self.handles(kind)), _MAX_KNOWN)
        return handles.unknown_handle_error(handle, kind, list(known))

    def _folder(self, kind: Kind, layout: str = LAYOUT) -> Path:
        return kind_folder(self.root, kind, layout)

    def _make_folder(self, folder: Path) -> None:
        try:
            if not self.root.exists():
                self.root.parent.mkdir(parents=True, exist_ok=True)
                self.root.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The store at {self.root} cannot be created: {error.strerror or error}.",
                hint=f"Set {setting('store_dir')} to a folder that can be written.",
            ) from error


def _touch(path: Path) -> bool:
    """Mark the record as stored just now. False if somebody has removed it meanwhile."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # a store that may only be read from: the record is there
        pass
    return True


def _read_usable(path: Path, kind: Kind, run: Run | None) -> Json | None:
    """The record in a file; None if there is no file or it cannot be used, in which case it is replaced."""
    try:
        return files.read_record(path, kind, run)
    except (FileNotFoundError, StoreError):
        return None


def _read_places(record: Json) -> list[tuple[Media, Any]]:
    """Every place of a media record with its stamp, newest first."""
    return [
        (records.media_from_json(place["media"]), place["stamp"])
        for place in (record, *record.get("elsewhere", ()))
    ]


def _list_other_places(record: Json, existing: Json) -> list[Json]:
    """The places of an existing record, except the one that the new record gives."""
    older = ({"media": existing["media"], "stamp": existing["stamp"]}, *existing.get("elsewhere", ()))
    return [place for place in older if place["media"]["path"] != record["media"]["path"]][:_MAX_ELSEWHERE]


def _make_move_error(what: str, problem: str) -> MediaNotFoundError:
    return MediaNotFoundError(
        f"{what} {problem}.",
        hint="Move it back, or give its new path once, for example to "
        f"{call('view')}; masks made from it remain valid.",
    )
