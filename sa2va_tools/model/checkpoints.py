"""Names of checkpoints → folders: the embedded nano, local folders, and what was pulled from the hub.

Nothing is downloaded here: a checkpoint of many gigabytes comes when a person asks for it (`hub.pull`).
"""

from __future__ import annotations

from pathlib import Path

from sa2va_tools.errors import CheckpointNotFoundError
from sa2va_tools.model.hub import HubReference, cached_snapshot, hub_reference
from sa2va_tools.model.zoo import published

NANO = "nano"
_WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
NANO_FOLDER = Path(__file__).parent / "nano"


def checkpoint_folder(model: str | Path) -> Path:
    """The folder of `"nano"`, of a path, or of a hub id (`ByteDance/Sa2VA-4B`, also `Sa2VA-4B`, with
    `@revision` if need be) that was pulled before. Raises CheckpointNotFoundError."""
    if str(model) == NANO:
        return NANO_FOLDER
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointNotFoundError(
            f"{folder} is a file; a checkpoint is a folder.", hint="Give the folder that holds config.json."
        )
    reference = reference_of(str(model))
    if reference is None:
        raise CheckpointNotFoundError(
            f"There is no checkpoint {str(model)!r}: it is neither 'nano' nor a folder, nor a hub id.",
            hint="Give 'nano', the folder of a Sa2VA checkpoint, or an id that `sa2va models` lists.",
        )
    cached = cached_snapshot(reference)
    if cached is None:
        raise CheckpointNotFoundError(
            f"{reference} is not on this machine, and there is no folder {str(model)!r}.",
            hint=f"Download it first: sa2va pull {reference}",
        )
    return cached


def weights_place(name: str) -> Path:
    """A file or folder of other weights: a path, or a hub id that was pulled before. Raises
    CheckpointNotFoundError."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if path.suffix in _WEIGHT_SUFFIXES or path.is_absolute():
        raise CheckpointNotFoundError(f"There are no weights at {path}.", hint="Correct the path.")
    return checkpoint_folder(name)


def reference_of(model: str) -> HubReference | None:
    """A hub reference, also for the bare name of a published checkpoint."""
    name, at, revision = model.partition("@")
    known = published(name)
    return hub_reference(f"{known.id}{at}{revision}" if known is not None else model)
