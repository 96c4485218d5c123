"""Download one file over HTTP: resumed if it was interrupted, verified by its hash, and named only when
complete.

The hub's own library starts a file over in each process: with a slow or unreliable connection, a file of five
gigabytes would never be complete.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from sa2va_tools.run import Run

_BLOCK_BYTES = 2**20
_MAX_FAILURES = 5
"""In a row, without a byte received in between."""
_WAIT_S = 0.5
"""After the first failure; it doubles with each further one."""
_TIMEOUT = httpx.Timeout(30.0, read=60.0)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository. `digest` is the SHA-256 of a large file, git's blob hash of a small one."""

    name: str
    size: int
    digest: str
    is_sha256: bool


def download(
    file: RemoteFile,
    url: str,
    target: Path,
    headers: Mapping[str, str],
    run: Run,
    on_bytes: Callable[[int], None],
) -> bool:
    """Download `url` to `target`, by way of `<target>.part`, which is kept if the download is interrupted.

    False if what was received has another hash; it was removed. `on_bytes` gets the number of bytes received
    so far. Raises httpx.HTTPError if the connection or the server fails repeatedly, CancelledError.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while not part.exists() or part.stat().st_size < file.size:
        before = part.stat().st_size if part.exists() else 0
        try:
            _resume(url, part, before, headers, run, on_bytes)
            if part.exists() and part.stat().st_size == before:
                break  # the server has no more bytes
        except httpx.HTTPError as error:
            has_progress = part.exists() and part.stat().st_size > before
            failures = 0 if has_progress else failures + 1
            if failures >= _MAX_FAILURES or not _is_temporary(error):
                raise
            time.sleep(_WAIT_S * 2**failures)
    if _hash_content(part, file, run) != file.digest:
        part.unlink()
        return False
    part.replace(target)
    return True


def _is_temporary(error: httpx.HTTPError) -> bool:
    """Broken connections, errors of the server and "too many requests" are worth another attempt."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status == httpx.codes.TOO_MANY_REQUESTS or httpx.codes.is_server_error(status)
    return isinstance(error, httpx.TransportError)


def _resume(
    url: str, part: Path, start: int, headers: Mapping[str, str], run: Run, on_bytes: Callable[[int], None]
) -> None:
    """Append the bytes from `start` on; the whole file if the server cannot resume."""
    headers = {**headers, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=_TIMEOUT) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()  # it is longer than the file, so it belongs to another one
            return
        response.raise_for_status()
        resumes = response.status_code == httpx.codes.PARTIAL_CONTENT
        received = start if resumes else 0
        with part.open("ab" if resumes else "wb") as opened:
            for block in response.iter_bytes(_BLOCK_BYTES):
                run.raise_if_cancelled()
                opened.write(block)
                received += len(block)
                on_bytes(received)


def _hash_content(path: Path, file: RemoteFile, run: Run) -> str:
    """The hash of the kind that `file.digest` is."""
    digest = hashlib.sha256()
    if not file.is_sha256:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            run.raise_if_cancelled()
            digest.update(block)
    return digest.hexdigest()
