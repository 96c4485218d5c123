"""One file over HTTP into a folder: goes on where it stopped, is hashed, and gets its name only when whole.

The hub's own library starts a file anew in each process, which for a shard of five gigabytes on a weak line
means never.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from sa2va_tools.progress import CancelToken

_BLOCK = 2**20
_TRIES, _WAIT_S = 5, 0.5
_TIMEOUT = httpx.Timeout(30.0, read=60.0)


class WrongHashError(Exception):
    """What came is not what was promised; it is gone."""


def fetch(
    url: str,
    target: Path,
    *,
    size: int,
    digest: str,
    is_sha256: bool,
    headers: Mapping[str, str],
    cancel: CancelToken,
    on_bytes: Callable[[int], None],
) -> None:
    """Download `url` to `target`, by way of `<target>.part`, which stays when it is broken off.

    `digest` is a SHA-256, or git's hash of a blob. `on_bytes` hears how much of the file is there. Raises
    httpx.HTTPError when the line or the server fails for good, WrongHashError, CancelledError.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while (there := part.stat().st_size if part.exists() else 0) < size or not part.exists():
        try:
            _go_on(url, part, there, headers, cancel, on_bytes)
            if part.exists() and part.stat().st_size == there:
                break  # the server has no more
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            if isinstance(error, httpx.HTTPStatusError) and not _passes(error.response.status_code):
                raise
            came = part.exists() and part.stat().st_size > there
            failures = 0 if came else failures + 1
            if failures >= _TRIES:
                raise
            time.sleep(_WAIT_S * 2**failures)
    begun = hashlib.sha256() if is_sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    if _digest(part, begun, cancel) != digest:
        part.unlink()
        raise WrongHashError(target.name)
    part.replace(target)


def _passes(status: int) -> bool:
    """Too many requests, and faults of the server, are worth another try."""
    return status == httpx.codes.TOO_MANY_REQUESTS or httpx.codes.is_server_error(status)


def _go_on(
    url: str,
    part: Path,
    there: int,
    headers: Mapping[str, str],
    cancel: CancelToken,
    on_bytes: Callable[[int], None],
) -> None:
    asked = {**headers, "Accept-Encoding": "identity"}
    if there:
        asked["Range"] = f"bytes={there}-"
    with httpx.stream("GET", url, headers=asked, follow_redirects=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()  # longer than the file: it was another's
            return
        answer.raise_for_status()
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        done = there if goes_on else 0
        with part.open("ab" if goes_on else "wb") as opened:
            for block in answer.iter_bytes(_BLOCK):
                cancel.raise_if_cancelled()
                opened.write(block)
                done += len(block)
                on_bytes(done)


def _digest(path: Path, begun: hashlib._Hash, cancel: CancelToken) -> str:
    with path.open("rb") as opened:
        while block := opened.read(_BLOCK):
            cancel.raise_if_cancelled()
            begun.update(block)
    return begun.hexdigest()
