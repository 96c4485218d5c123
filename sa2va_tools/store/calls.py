"""Which answer a call had: one small file per call, named after the digest of all that the answer depends on.
Knows nothing about what calls ask. A file that is damaged or gone only means that the answer is not known."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sa2va_tools import atomic
from sa2va_tools.errors import StoreError
from sa2va_tools.store import handles
from sa2va_tools.store.files import MALFORMED, SUFFIX, name_setting
from sa2va_tools.store.records import Json
from sa2va_tools.wording import setting

_FORMAT = "sa2va-call/1"


class CallIndex:
    """Files in a folder, which the first `put` creates. Any number of processes may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, request: Mapping[str, Any]) -> Json | None:
        """What `put` stored for an equal request (JSON values); None if there is nothing that can be used."""
        digest = handles.compute_digest(request)
        try:
            document = json.loads(gzip.decompress(self._path(digest).read_bytes()))
            if document["format"] != _FORMAT or document["request"] != digest:
                return None
            outcome: Json = document["outcome"]
        except (OSError, *MALFORMED):
            return None
        return outcome

    def put(self, request: Mapping[str, Any], outcome: Json) -> None:
        """Store what a request led to, in place of what was stored before. StoreError if it cannot be
        written."""
        digest = handles.compute_digest(request)
        document = json.dumps({"format": _FORMAT, "request": digest, "outcome": outcome})
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The store cannot create {self._folder}: {error.strerror or error}.",
                hint=f"Set {setting('store_dir')} to a folder that can be written.",
            ) from error
        with name_setting():
            atomic.write_bytes(self._path(digest), gzip.compress(document.encode("utf-8"), mtime=0))

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}{SUFFIX}"
