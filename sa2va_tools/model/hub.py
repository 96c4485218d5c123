"""Checkpoints from the Hugging Face hub into its own cache: checked before, resumable, verified after.

The hub's library knows addresses, leave and the cache, so `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE` mean what they mean everywhere; `transfer` brings the bytes. Only weights, configs and
tokenizers are taken; code and pickles stay where they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sa2va_tools.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    RequestError,
    UnsupportedCheckpointError,
)
from sa2va_tools.model import transfer
from sa2va_tools.model.config import read_config
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress

WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "merges.txt")
_SPARE_BYTES = 512 * 2**20
_SHA256_DIGITS = 64
_NO_LEAVE = (401, 403)
_ELSEWHERE = "Set HF_HOME to a folder that you can write."
_NAME = r"\w(?:[\w.-]*\w)?"
_REFERENCE = re.compile(rf"(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class HubReference:
    """`owner/name`, perhaps `@revision` (a branch, tag or commit)."""

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        return self.repo if self.revision == "main" else f"{self.repo}@{self.revision}"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository. `digest` is the SHA-256 of large files, git's own blob hash of small ones."""

    name: str
    size: int
    digest: str
    is_sha256: bool


def hub_reference(model: str) -> HubReference | None:
    """`model` as a reference; None for what cannot be one."""
    match = _REFERENCE.fullmatch(model)
    return None if match is None else HubReference(match["repo"], match["revision"] or "main")


def cached_snapshot(reference: HubReference) -> Path | None:
    """The folder in the hub's cache, whole or not; None where there is none. No network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(reference.repo, revision=reference.revision, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError, HFValidationError):
        return None


def pull(
    reference: HubReference,
    *,
    on_progress: ProgressCallback = ignore_progress,
    cancel: CancelToken | None = None,
) -> Path:
    """Download what is not there yet and return the folder.

    The config comes first, so that a checkpoint which cannot run is refused before its weights come. A call
    after a broken-off one goes on where that stopped. Files whose hash is wrong are removed.

    Raises CheckpointNotFoundError (no such repository or revision, or no leave to read it), CheckpointError
    (hub out of reach, wrong hash, disk too small), UnsupportedCheckpointError, CancelledError.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return _whole_in_cache(reference)
    with _hub_errors(reference):
        info = HfApi().model_info(reference.repo, revision=reference.revision, files_metadata=True)
        files = _wanted(reference, str(info.sha), info.siblings or [])
    work = _Pull(reference, str(info.sha), sum(file.size for file in files), on_progress, cancel)
    work.require_room(files)
    for file in files:
        folder = work.fetch(file).parent
        if file.name == "config.json" and not _is_stock_sam2(folder):
            read_config(folder)
    return folder


def _whole_in_cache(reference: HubReference) -> Path:
    """What `HF_HUB_OFFLINE` leaves of a pull."""
    from sa2va_tools.model.weight_files import weight_files

    folder = cached_snapshot(reference)
    try:
        if folder is not None:
            weight_files(folder)
            return folder
    except CheckpointError:
        pass  # said below: part of it is not there
    raise CheckpointError(
        f"{reference} is not whole in the cache, and HF_HUB_OFFLINE is set.",
        hint="Unset HF_HUB_OFFLINE, then run the command again.",
    )


def _is_stock_sam2(folder: Path) -> bool:
    """Weights to borrow a mask decoder from (`--sam2-decoder`), no Sa2VA checkpoint."""
    try:
        model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        return False
    return str(model_type).startswith("sam2")


def _wanted(reference: HubReference, commit: str, siblings: Sequence[Any]) -> list[RemoteFile]:
    """What a checkpoint needs, configs first."""
    names = [sibling.rfilename for sibling in siblings]
    if "config.json" not in names:
        raise CheckpointNotFoundError(
            f"{reference} on the hub holds no config.json: it is no checkpoint.",
            hint="`sa2va models` lists the published ones.",
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise UnsupportedCheckpointError(
            f"{reference} holds no *.safetensors files; pickled weights can run code when they are read.",
            hint="Use a revision or a copy with safetensors, or convert it in a place you trust.",
        )
    files = [
        _remote(reference, commit, sibling)
        for sibling in siblings
        if "/" not in sibling.rfilename and any(fnmatch(sibling.rfilename, wanted) for wanted in WANTED)
    ]
    return sorted(files, key=lambda file: (file.name != "config.json", file.size))


def _remote(reference: HubReference, commit: str, sibling: Any) -> RemoteFile:
    """Size and hash from the listing; from the file's own address where a mirror leaves them out."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    name = str(sibling.rfilename)
    if sibling.lfs:
        return RemoteFile(name, int(sibling.lfs.size or sibling.size), sibling.lfs.sha256, True)
    if sibling.blob_id and sibling.size is not None:
        return RemoteFile(name, int(sibling.size), str(sibling.blob_id), False)
    found = get_hf_file_metadata(hf_hub_url(reference.repo, name, revision=commit))
    if not found.etag or found.size is None:
        raise CheckpointError(
            f"The hub tells neither hash nor size of {name} in {reference}: it could not be verified.",
            hint="Use another mirror (HF_ENDPOINT).",
        )
    return RemoteFile(name, int(found.size), found.etag, len(found.etag) == _SHA256_DIGITS)


class _Pull:
    """Brings files of one commit one by one, and counts their bytes together."""

    def __init__(
        self,
        reference: HubReference,
        commit: str,
        total: int,
        on_progress: ProgressCallback,
        cancel: CancelToken | None,
    ) -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self.reference, self.commit, self.total = reference, commit, total
        self.on_progress, self.cancel = on_progress, cancel or CancelToken()
        self.done = 0
        cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=reference.repo, repo_type="model")
        self.blobs = cache / "blobs"

    def require_room(self, files: Sequence[RemoteFile]) -> None:
        """CheckpointError when the disk cannot take what is not there yet, or the cache cannot be written."""
        missing = sum(max(0, file.size - self._there(file)) for file in files)
        cache = self.blobs.parents[1]
        existing = next(place for place in (cache, *cache.absolute().parents) if place.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise CheckpointError(f"{cache} cannot be written: {existing} is in its way.", hint=_ELSEWHERE)
        free = shutil.disk_usage(existing).free
        if missing and missing + _SPARE_BYTES > free:
            raise CheckpointError(
                f"{self.reference} needs {missing / 1e9:.1f} GB more in {cache}; "
                f"{free / 1e9:.1f} GB are free.",
                hint="Free some space, or set HF_HOME to a folder on a larger disk.",
            )

    def _there(self, file: RemoteFile) -> int:
        """Bytes that came before, of a whole file or of a broken-off one."""
        for place in (self.blobs / file.digest, self.blobs / f"{file.digest}.part"):
            if place.is_file():
                return place.stat().st_size
        return 0

    def fetch(self, file: RemoteFile) -> Path:
        """The file in its snapshot's folder. The cache finds the content by its hash, and links to it."""
        from huggingface_hub import hf_hub_download, hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        self.cancel.raise_if_cancelled()
        blob = self.blobs / file.digest
        with _hub_errors(self.reference):
            if not blob.exists():
                url = hf_hub_url(self.reference.repo, file.name, revision=self.commit)
                self._bring(url, blob, file, build_hf_headers())
            path = Path(hf_hub_download(self.reference.repo, file.name, revision=self.reference.revision))
        self.done += file.size
        self._say(file.name, 0)
        if path.parent.name != self.commit:
            raise CheckpointError(
                f"{self.reference} changed on the hub while it was downloaded.", hint="Run the command again."
            )
        return path

    def _bring(self, url: str, blob: Path, file: RemoteFile, headers: dict[str, str]) -> None:
        try:
            transfer.fetch(
                url,
                blob,
                size=file.size,
                digest=file.digest,
                is_sha256=file.is_sha256,
                headers=headers,
                cancel=self.cancel,
                on_bytes=lambda done: self._say(file.name, done),
            )
        except transfer.WrongHashError as error:
            raise CheckpointError(
                f"{file.name} of {self.reference} came with another hash than the hub promises; "
                "it was removed.",
                hint="Run the command again. If it happens again, the mirror or a proxy changes the file.",
            ) from error

    def _say(self, name: str, of_this: int) -> None:
        done, total = (-(-count // 10**6) for count in (self.done + of_this, self.total))
        self.on_progress(Progress("download, MB", min(done, total), total, name))


@contextmanager
def _hub_errors(reference: HubReference) -> Iterator[None]:
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise CheckpointNotFoundError(
            f"{reference} is gated, and this machine has no leave to read it.",
            hint="Accept its terms on the hub, then `hf auth login` or set HF_TOKEN.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointNotFoundError(
            f"{reference.repo} has no revision {reference.revision!r}.", hint="Leave out what follows the @."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointNotFoundError(
            f"There is no {reference.repo} on the hub, or it is private.",
            hint="`sa2va models` lists the published ones; for a private one set HF_TOKEN.",
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{reference} is not in the cache, and the hub cannot be reached (or HF_HUB_OFFLINE is set).",
            hint="Connect, or unset HF_HUB_OFFLINE; then run the command again.",
        ) from error
    except errors.HFValidationError as error:
        raise RequestError(f"{reference} is no name that the hub knows: {error}.") from error
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise CheckpointError(f"The cache cannot be written: {error}.", hint=_ELSEWHERE) from error
    except (errors.HfHubHTTPError, _transport_errors(), httpx.HTTPError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in _NO_LEAVE:
            raise CheckpointNotFoundError(
                f"The hub gives no leave to read {reference} (HTTP {status}).",
                hint="It may be gated: accept its terms on the hub, then `hf auth login` or set HF_TOKEN.",
            ) from error
        raise CheckpointError(
            f"{reference} could not be downloaded: {type(error).__name__}: {error}.",
            hint="Run the command again: what came is kept. A mirror is used when HF_ENDPOINT names it.",
        ) from error


def _transport_errors() -> type[Exception]:
    """The base of what the hub's own HTTP library raises, whichever that is in its version."""
    from huggingface_hub import errors

    found: type[Exception] = getattr(errors, "HTTPError", OSError)
    return found
