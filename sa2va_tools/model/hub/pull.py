"""Download checkpoints from the Hugging Face hub into its own cache: checked beforehand,
resumable, verified afterwards.

The hub's library knows addresses, permissions and the cache, so `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE` mean what they always mean; `transfer` downloads the files. Only weights, configs and
tokenizers are taken, no code and no pickles.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from sa2va_tools.errors import CheckpointError, CheckpointNotFoundError, UnsupportedCheckpointError
from sa2va_tools.model.checkpoints.config_file import read_config
from sa2va_tools.model.checkpoints.safetensors_files import find_weight_files
from sa2va_tools.model.hub.transfer import RemoteFile, download
from sa2va_tools.run import Run

FILE_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt")
_RESERVED_BYTES = 512 * 2**20
"""Disk space that a download leaves free."""
_SHA256_DIGITS = 64
_NOT_ALLOWED = (401, 403)
_LOG_IN = "Accept its terms on the hub, then run `hf auth login` or set HF_TOKEN."
_SET_HF_HOME = "Set HF_HOME to a folder that you can write."
_NAME = r"\w(?:[\w.-]*\w)?"
_REFERENCE = re.compile(rf"(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class HubReference:
    """`owner/name`, or `owner/name@revision` (a branch, tag or commit)."""

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        return self.repo if self.revision == "main" else f"{self.repo}@{self.revision}"


def parse_hub_reference(model: str) -> HubReference | None:
    """`model` as a reference; None if it does not look like one."""
    match = _REFERENCE.fullmatch(model)
    return None if match is None else HubReference(match["repo"], match["revision"] or "main")


def find_cached_snapshot(reference: HubReference) -> Path | None:
    """The folder in the hub's cache, complete or not; None if there is none. Uses no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(reference.repo, revision=reference.revision, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError, HFValidationError):
        return None


def pull(reference: HubReference, *, run: Run | None = None) -> Path:
    """Download the files that are missing, and return the checkpoint's folder.

    The config comes first, so that an unsupported checkpoint is refused before its weights are downloaded. An
    interrupted download is resumed by the next call. A file with a wrong hash is removed.

    Raises CheckpointNotFoundError (no such repository or revision, or no permission to read it),
    CheckpointError (hub not reachable, wrong hash, disk too small), UnsupportedCheckpointError,
    CancelledError.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return _find_complete_snapshot(reference)
    with _translate_hub_errors(reference):
        info = HfApi().model_info(reference.repo, revision=reference.revision, files_metadata=True)
        commit = str(info.sha)
        files = _select_files(reference, commit, info.siblings or [])
        fetcher = _Fetcher(reference, commit, files, run or Run())
        fetcher.require_disk_space()
        return fetcher.fetch_all()


def _find_complete_snapshot(reference: HubReference) -> Path:
    """For HF_HUB_OFFLINE."""
    folder = find_cached_snapshot(reference)
    with suppress(CheckpointError):  # some files are missing; the error below is about all of it
        if folder is not None:
            find_weight_files(folder)
            return folder
    raise CheckpointError(
        f"{reference} is not complete in the cache, and HF_HUB_OFFLINE is set.",
        hint="Unset HF_HUB_OFFLINE, then run the command again.",
    )


def _select_files(reference: HubReference, commit: str, siblings: Sequence[Any]) -> list[RemoteFile]:
    """The files that a checkpoint needs: first its config, then from small to large."""
    names = [sibling.rfilename for sibling in siblings]
    if "config.json" not in names:
        raise CheckpointNotFoundError(
            f"{reference} has no config.json on the hub, so it is not a checkpoint.",
            hint="`sa2va models` lists the published checkpoints.",
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise UnsupportedCheckpointError(
            f"{reference} has no *.safetensors files; pickled weights can run code when they are read.",
            hint="Use a revision or a copy with safetensors, or convert it in a place that you trust.",
        )
    files = [
        _describe_file(reference, commit, sibling)
        for sibling in siblings
        if any(fnmatch(sibling.rfilename, pattern) for pattern in FILE_PATTERNS)
        and "/" not in sibling.rfilename
    ]
    return sorted(files, key=lambda file: (file.name != "config.json", file.size))


def _describe_file(reference: HubReference, commit: str, sibling: Any) -> RemoteFile:
    """Size and hash from the repository's listing, or, if a mirror lacks them there, from the file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    name = str(sibling.rfilename)
    if sibling.lfs:
        return RemoteFile(name, int(sibling.lfs.size or sibling.size), sibling.lfs.sha256, True)
    if sibling.blob_id and sibling.size is not None:
        return RemoteFile(name, int(sibling.size), str(sibling.blob_id), False)
    found = get_hf_file_metadata(hf_hub_url(reference.repo, name, revision=commit))
    if not found.etag or found.size is None:
        raise CheckpointError(
            f"The hub lists no hash or size for {name} of {reference}, so it could not be verified.",
            hint="Use another mirror (HF_ENDPOINT).",
        )
    return RemoteFile(name, int(found.size), found.etag, len(found.etag) == _SHA256_DIGITS)


class _Fetcher:
    """Fetches the files of one commit one after the other, and reports their bytes as one total."""

    def __init__(self, reference: HubReference, commit: str, files: Sequence[RemoteFile], run: Run) -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self._reference = reference
        self._commit = commit
        self._files = files
        self._run = run
        self._cache = Path(constants.HF_HUB_CACHE)
        folder = repo_folder_name(repo_id=reference.repo, repo_type="model")
        self._blobs = self._cache / folder / "blobs"
        self._complete_bytes = 0

    def require_disk_space(self) -> None:
        """Raises CheckpointError if the cache cannot be written, or if the disk is too small."""
        missing = sum(max(0, file.size - self._count_present_bytes(file)) for file in self._files)
        existing = next(path for path in (self._blobs, *self._blobs.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise CheckpointError(
                f"{existing} is not a writable folder, so the cache {self._cache} cannot be created.",
                hint=_SET_HF_HOME,
            )
        free = shutil.disk_usage(existing).free
        if missing and missing + _RESERVED_BYTES > free:
            raise CheckpointError(
                f"{self._reference} needs {missing / 1e9:.1f} GB more in {self._cache}; "
                f"{free / 1e9:.1f} GB is free.",
                hint="Free some space, or set HF_HOME to a folder on a larger disk.",
            )

    def _count_present_bytes(self, file: RemoteFile) -> int:
        for path in (self._blobs / file.digest, self._blobs / f"{file.digest}.part"):
            if path.is_file():
                return path.stat().st_size
        return 0

    def fetch_all(self) -> Path:
        """Download all files, and return their folder. Raises UnsupportedCheckpointError after the config."""
        for file in self._files:
            path = self._fetch(file)
            if file.name == "config.json" and not _is_stock_sam2(path):
                read_config(path.parent)
        return path.parent

    def _fetch(self, file: RemoteFile) -> Path:
        """The file in its snapshot's folder. The hub's library finds its content by hash, and links it."""
        from huggingface_hub import hf_hub_download

        self._run.raise_if_cancelled()
        blob = self._blobs / file.digest
        if not blob.exists():
            self._download(file, blob)
        path = Path(hf_hub_download(self._reference.repo, file.name, revision=self._reference.revision))
        if path.parent.name != self._commit:
            raise CheckpointError(
                f"{self._reference} changed on the hub during the download.", hint="Run the command again."
            )
        self._complete_bytes += file.size
        self._report(file, 0)
        return path

    def _download(self, file: RemoteFile, blob: Path) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        url = hf_hub_url(self._reference.repo, file.name, revision=self._commit)
        if not download(file, url, blob, build_hf_headers(), self._run, partial(self._report, file)):
            raise CheckpointError(
                f"{file.name} of {self._reference} does not match the hub's hash; the download was removed.",
                hint="Run the command again. If that does not help, a mirror or proxy may change the file.",
            )

    def _report(self, file: RemoteFile, received: int) -> None:
        total = sum(each.size for each in self._files)
        done_mb, total_mb = (-(-count // 10**6) for count in (self._complete_bytes + received, total))
        self._run.report("download, MB", min(done_mb, total_mb), total_mb, file.name)


def _is_stock_sam2(config_file: Path) -> bool:
    """Weights for `--sam2-decoder`, which are not a Sa2VA checkpoint."""
    try:
        model_type = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        return False  # read_config tells what is wrong
    return str(model_type).startswith("sam2")


@contextmanager
def _translate_hub_errors(reference: HubReference) -> Iterator[None]:
    """Errors of the hub's library, of its HTTP library and ours, and of the disk leave this block as ours."""
    import httpx
    from huggingface_hub import errors

    hub_http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    try:
        yield
    except errors.GatedRepoError as error:
        raise CheckpointNotFoundError(
            f"{reference} is gated, and you have no access to it yet.", hint=_LOG_IN
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointNotFoundError(
            f"{reference.repo} has no revision {reference.revision!r}.",
            hint="Leave out the part after the @.",
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise CheckpointNotFoundError(
            f"There is no {reference.repo} on the hub, or it is private.",
            hint="`sa2va models` lists the published checkpoints; for a private one, set HF_TOKEN.",
        ) from error
    except (PermissionError, NotADirectoryError) as error:
        raise CheckpointError(f"The cache cannot be written: {error}.", hint=_SET_HF_HOME) from error
    except (hub_http_error, httpx.HTTPError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in _NOT_ALLOWED:
            raise CheckpointNotFoundError(
                f"The hub does not allow you to read {reference} (HTTP {status}).", hint=_LOG_IN
            ) from error
        raise CheckpointError(
            f"{reference} could not be downloaded: {type(error).__name__}: {error}.",
            hint="Run the command again: complete parts are kept. HF_ENDPOINT can name a mirror.",
        ) from error
