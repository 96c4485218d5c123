"""One record per file: compressed JSON, checked against the beginning of its digest, which is the file's
name. Knows the format of a file, but not which records a store needs."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from sa2va_tools import atomic
from sa2va_tools.errors import StoreError
from sa2va_tools.run import Run, raise_if_cancelled
from sa2va_tools.store import handles, records
from sa2va_tools.store.handles import Kind
from sa2va_tools.store.pieces import iter_json
from sa2va_tools.store.records import Json
from sa2va_tools.wording import setting

FORMAT = "sa2va-store/3"
FORMAT_2 = "sa2va-store/2"
SUFFIX = ".json.gz"
_GZIP = 16 + zlib.MAX_WBITS  # zlib writes gzip's header and checksum
_NOT_PACKED = (EOFError, gzip.BadGzipFile, zlib.error)
MALFORMED = (*_NOT_PACKED, AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What reading, parsing and unpacking a file that is not a record can raise."""


def compute_record_digest(kind: Kind, record: Json, run: Run | None = None) -> str:
    """The digest of the part of a record from which its handle is derived. Raises CancelledError."""
    if kind == "media":
        return handles.compute_digest(records.extract_media_identity(record["media"]), run)
    return handles.compute_digest(records.extract_result_identity(record), run)


def write_record(path: Path, kind: Kind, record: Json, run: Run | None = None) -> None:
    """Write or replace the file, whole or not at all. Raises StoreError, CancelledError."""
    pieces = chain([f'{{"format":"{FORMAT}","kind":"{kind}","record":'], iter_json(record), "}")
    packer = zlib.compressobj(wbits=_GZIP)
    with name_setting(), atomic.create_file(path) as file:
        for piece in pieces:
            raise_if_cancelled(run)
            file.write(packer.compress(piece.encode("ascii")))
        file.write(packer.flush())


@contextmanager
def name_setting() -> Iterator[None]:
    """A failure to write into the store says which setting chooses another folder."""
    try:
        yield
    except StoreError as error:
        raise StoreError(
            error.message,
            hint="Check that the store is writable and that its disk has free space, or set "
            f"{setting('store_dir')} to another folder.",
        ) from error


def read_record(path: Path, kind: Kind, run: Run | None = None) -> Json:
    """The record in a file, in the present format. FileNotFoundError if there is no file, StoreError if it
    cannot be read, is not a record of this kind or was damaged; CancelledError."""
    try:
        # json would keep the bytes in memory in addition to the text.
        document = json.loads(gzip.decompress(path.read_bytes()).decode("utf-8"))
        if document["format"] not in (FORMAT, FORMAT_2) or document["kind"] != kind:
            raise unreadable_error(path, f"it is not a {kind} record of the format {FORMAT} or {FORMAT_2}")
        record: Json = document["record"]
        # The name is derived from the record as it was written.
        digest = compute_record_digest(kind, record, run)
        if document["format"] == FORMAT_2:
            record = records.upgrade_record(kind, record)
    except FileNotFoundError:
        raise
    except MALFORMED as error:
        raise unreadable_error(path, "it is damaged, or not a record of this store") from error
    except OSError as error:
        raise access_error(path, error) from error
    if not digest.startswith(path.name.removesuffix(SUFFIX)):
        raise unreadable_error(path, "its content does not belong to its name")
    return record


def read_call_answer(path: Path) -> str | None:
    """The answer that a file about a call names; None if that cannot be read."""
    try:
        return str(json.loads(gzip.decompress(path.read_bytes()))["outcome"]["answer"])
    except (OSError, *MALFORMED):
        return None


def unreadable_error(path: Path, problem: str) -> StoreError:
    """The error for a file that is there but is not a usable record."""
    return StoreError(
        f"The store's file {path} cannot be used: {problem}.",
        hint="Repeat the call that made the result. If the error comes back, delete that file.",
    )


def access_error(path: Path, error: OSError) -> StoreError:
    """The error for a file or folder that the system does not let us read."""
    return StoreError(
        f"The store cannot read {path}: {error.strerror or error}.",
        hint=f"Check the permissions, or set {setting('store_dir')} to another folder.",
    )
