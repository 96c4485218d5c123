"""Media, masks and answers under short handles, on disk, across restarts.

Layout: `<root>/v2/<kind>/<id>.json.gz`, one immutable record per file, written whole or not at all.
Equal content has one handle, so that writers in several processes need no lock. Knows nothing of
models or protocols; there is no index and no retention yet.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from sa2va_tools import atomic
from sa2va_tools.errors import MediaError, MediaNotFoundError, StoreError
from sa2va_tools.media.media import Media
from sa2va_tools.progress import unhindered
from sa2va_tools.store import handles, records
from sa2va_tools.store.handles import Kind
from sa2va_tools.store.pieces import json_pieces, settled
from sa2va_tools.store.records import AnswerRecord, Json, MaskRecord
from sa2va_tools.store.stamp import holds, stamp_of

FORMAT = "sa2va-store/2"
_LAYOUT = "v2"
_SUFFIX = ".json.gz"
_KNOWN_SHOWN = 5
# What reading, parsing and taking apart a file that is not ours can raise.
_GARBLED = (
    AttributeError,
    EOFError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    gzip.BadGzipFile,
    zlib.error,
)

_GZIP = 16 + zlib.MAX_WBITS  # zlib's own sign for gzip's header and sum
_MAX_ELSEWHERE = 7
_Record = TypeVar("_Record")


class Store:
    """Keeps records under `root`, which is made (for its owner only) by the first write.

    Every method raises StoreError when the disk cannot be read or written or a file is not a record
    of ours; `put_…` raises TypeError or ValueError when a record holds what JSON cannot (a NaN, an
    array); `get_…` raises UnknownHandleError for a handle that is not here and RequestError for a
    handle of another kind.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_media(self, media: Media) -> str:
        """`media:…`. The same content at another path keeps its handle; both places are remembered.
        MediaNotFoundError when the file is gone."""
        try:
            stamp = stamp_of(media.path)
        except OSError as error:
            raise _moved(f"{media.path}", "cannot be read any more") from error
        return self._put("media", {"media": records.media_to_json(media), "stamp": stamp})

    def get_media(
        self,
        handle: str,
        allowed: Callable[[Path], bool] = lambda path: True,
        check: Callable[[], None] = unhindered,
    ) -> Media:
        """The media, at the place it was last given from where its file is still as it was. Places
        that are not `allowed` are not looked at; `check` is called while a file that may have changed is
        read. MediaNotFoundError when all moved or changed."""
        failure: MediaNotFoundError | None = None
        for media, stamp in self._get("media", handle, _places):
            if not allowed(media.path):
                continue
            try:
                if stamp_of(media.path) == stamp:
                    return media
                if holds(media, check):
                    with suppress(StoreError):  # the new stamp only saves another reading
                        self.put_media(media)
                    return media
                problem = _moved(f"{media.path} ({handle})", "has changed since that handle was given")
            except (OSError, MediaError):
                problem = _moved(f"{media.path} ({handle})", "is no longer there")
            failure = failure or problem
        raise failure or _moved(handle, "is not in a place that may be read")

    def media_paths(self, handle: str) -> tuple[Path, ...]:
        """Where the media was given from, newest first; nothing is looked at."""
        return tuple(media.path for media, _ in self._get("media", handle, _places))

    def put_mask(self, record: MaskRecord, check: Callable[[], None] = unhindered) -> str:
        """`mask:…`; the same mask of the same media, made the same way, keeps its handle. `check` is called
        between pieces of it; a Sa2vaError that it raises stops the work and leaves nothing behind."""
        handles.id_of(record.media_handle, "media")
        return self._put("mask", records.mask_to_json(record), check)

    def get_mask(self, handle: str, check: Callable[[], None] = unhindered) -> MaskRecord:
        """`check` is called between parts of the work; a Sa2vaError that it raises stops it."""
        return self._get("mask", handle, partial(records.mask_from_json, check=check), check)

    def mask_media(self, handle: str, check: Callable[[], None] = unhindered) -> str:
        """The `media:` handle of a mask, whose track is not unpacked; `check` as in `get_mask`."""
        return self._get("mask", handle, lambda data: str(data["media_handle"]), check)

    def mask_label(self, handle: str, check: Callable[[], None] = unhindered) -> str:
        """What a mask is of, likewise."""
        return self._get("mask", handle, lambda data: str(data["label"]), check)

    def put_answer(self, record: AnswerRecord) -> str:
        """`answer:…`; the same answer, made the same way, keeps its handle."""
        if record.media_handle is not None:
            handles.id_of(record.media_handle, "media")
        for mask_handle in record.mask_handles:
            handles.id_of(mask_handle, "mask")
        return self._put("answer", records.answer_to_json(record))

    def get_answer(self, handle: str) -> AnswerRecord:
        return self._get("answer", handle, records.answer_from_json)

    def handles(self, kind: Kind | None = None) -> tuple[str, ...]:
        """Every handle in the store, or those of one kind; newest first."""
        found: list[tuple[int, str]] = []
        for folder_kind in handles.KINDS if kind is None else (kind,):
            folder = self._folder(folder_kind)
            try:
                # Not glob, which takes a folder that may not be read for an empty one.
                for path in folder.iterdir():
                    handle = f"{folder_kind}:{path.name.removesuffix(_SUFFIX)}"
                    if path.name.endswith(_SUFFIX) and handles.kind_of(handle):
                        found.append((-path.stat().st_mtime_ns, handle))
            except FileNotFoundError:
                continue  # nothing of this kind was ever written
            except OSError as error:
                raise _refused(folder, error) from error
        return tuple(handle for _, handle in sorted(found))

    def _put(self, kind: Kind, record: Json, check: Callable[[], None] = unhindered) -> str:
        # What is hashed must not differ from what is checked later.
        record = settled(record)
        digest = handles.digest_of(_identity(kind, record), check)
        self._make_folder(kind)
        for length in handles.ID_LENGTHS:
            path = self._folder(kind) / f"{digest[:length]}{_SUFFIX}"
            there = self._record_at(path, kind, check)
            if there is not None and handles.digest_of(_identity(kind, there), check) != digest:
                continue  # another content whose digest begins alike
            if there is not None and kind == "media":
                record = {**record, "elsewhere": _other_places(record, there)}
            if there is None or (kind == "media" and there != record):
                _write(path, kind, record, check)
            return f"{kind}:{digest[:length]}"
        raise AssertionError("two contents with one SHA-256")

    def _record_at(self, path: Path, kind: Kind, check: Callable[[], None]) -> Json | None:
        """The record in the file; None when there is none, or none that can be used: it is replaced."""
        try:
            return _read(path, kind, check)
        except FileNotFoundError:
            return None
        except StoreError:
            return None

    def _get(
        self,
        kind: Kind,
        handle: str,
        from_json: Callable[[Json], _Record],
        check: Callable[[], None] = unhindered,
    ) -> _Record:
        record_id = handles.id_of(handle, kind)
        path = self._folder(kind) / f"{record_id}{_SUFFIX}"
        try:
            record = _read(path, kind, check)
        except FileNotFoundError:
            raise handles.unknown(handle, kind, self.handles(kind)[:_KNOWN_SHOWN]) from None
        try:
            return from_json(record)
        except _GARBLED as error:
            raise _unreadable(path, "it holds other fields than expected") from error

    def _folder(self, kind: Kind) -> Path:
        return self.root / _LAYOUT / kind

    def _make_folder(self, kind: Kind) -> None:
        try:
            if not self.root.exists():
                self.root.parent.mkdir(parents=True, exist_ok=True)
                self.root.mkdir(mode=0o700, exist_ok=True)
            self._folder(kind).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The store at {self.root} cannot be made: {error.strerror or error}.",
                hint="Set SA2VA_STORE_DIR to a folder that can be written.",
            ) from error


def _write(path: Path, kind: Kind, record: Json, check: Callable[[], None]) -> None:
    pieces = chain([f'{{"format":"{FORMAT}","kind":"{kind}","record":'], json_pieces(record), "}")
    packer = zlib.compressobj(wbits=_GZIP)
    with atomic.new_file(path) as file:
        for piece in pieces:
            check()
            file.write(packer.compress(piece.encode("ascii")))
        file.write(packer.flush())


def _read(path: Path, kind: Kind, check: Callable[[], None] = unhindered) -> Json:
    """The record in a file, checked against the digest in the file's name. FileNotFoundError where
    there is none, StoreError when it is not one of ours or was damaged."""
    try:
        # As text, for json would keep the bytes beside it.
        document = json.loads(gzip.decompress(path.read_bytes()).decode("utf-8"))
        if document["format"] != FORMAT or document["kind"] != kind:
            raise _unreadable(path, f"it is not a {kind} record of the format {FORMAT}")
        record: Json = document["record"]
        digest = handles.digest_of(_identity(kind, record), check)
    except FileNotFoundError:
        raise
    except _GARBLED as error:
        raise _unreadable(path, "it is damaged, or not a record of this store") from error
    except OSError as error:
        raise _refused(path, error) from error
    if not digest.startswith(path.name.removesuffix(_SUFFIX)):
        raise _unreadable(path, "its content does not belong to its name")
    return record


def _identity(kind: Kind, record: Json) -> Json:
    return records.media_identity(record["media"]) if kind == "media" else records.result_identity(record)


def _places(record: Json) -> list[tuple[Media, Any]]:
    """Every place of a media record with its stamp, newest first."""
    return [
        (records.media_from_json(place["media"]), place["stamp"])
        for place in (record, *record.get("elsewhere", ()))
    ]


def _other_places(record: Json, there: Json) -> list[Json]:
    """The older record's places but the one that is given anew."""
    older = ({"media": there["media"], "stamp": there["stamp"]}, *there.get("elsewhere", ()))
    return [place for place in older if place["media"]["path"] != record["media"]["path"]][:_MAX_ELSEWHERE]


def _moved(what: str, problem: str) -> MediaNotFoundError:
    return MediaNotFoundError(
        f"{what} {problem}.", hint="Pass the path of the image or video again; masks made of it stay usable."
    )


def _unreadable(path: Path, problem: str) -> StoreError:
    return StoreError(
        f"The store's file {path} cannot be used: {problem}.",
        hint="Make the result again; if this comes back, remove that file.",
    )


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The store cannot read {path}: {error.strerror or error}.",
        hint="Check the permissions, or set SA2VA_STORE_DIR to another folder.",
    )
