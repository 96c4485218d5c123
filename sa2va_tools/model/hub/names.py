"""Names of checkpoints → folders: the nano, local folders, and what was downloaded from the hub.

Nothing is downloaded here: that happens when a person asks for it (`hub.pull`).
"""

from __future__ import annotations

from pathlib import Path

from sa2va_tools.errors import CheckpointNotFoundError
from sa2va_tools.model.hub.published import find_published
from sa2va_tools.model.hub.pull import HubReference, find_cached_snapshot, parse_hub_reference

NANO = "nano"
NANO_FOLDER = Path(__file__).parents[2] / "nano" / "checkpoint"
_WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def find_checkpoint(model: str | Path) -> Path:
    """The folder of `"nano"`, of a path, or of a downloaded hub id (`ByteDance/Sa2VA-4B` or `Sa2VA-4B`, with
    `@revision` if needed). Raises CheckpointNotFoundError."""
    if str(model) == NANO:
        return NANO_FOLDER
    if not str(model).strip():
        raise CheckpointNotFoundError(
            "The name of the checkpoint is empty.", hint="Give 'nano', a folder or a hub id, or leave it out."
        )
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointNotFoundError(
            f"{folder} is a file; a checkpoint is a folder.", hint="Give the folder that holds config.json."
        )
    reference = find_hub_reference(str(model))
    if reference is None:
        raise CheckpointNotFoundError(
            f"There is no checkpoint {str(model)!r}: it is not 'nano', an existing folder or a hub id.",
            hint="Give 'nano', the folder of a Sa2VA checkpoint, or an id that `sa2va models` lists.",
        )
    snapshot = find_cached_snapshot(reference)
    if snapshot is None:
        raise CheckpointNotFoundError(
            f"{reference} is not on this machine, and there is no folder {str(model)!r}.",
            hint=f"Download it first: sa2va pull {reference}",
        )
    return snapshot


def find_weights(name: str) -> Path:
    """A file or folder of other weights: a path, or a downloaded hub id. Raises CheckpointNotFoundError."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if path.suffix in _WEIGHT_SUFFIXES or path.is_absolute():
        raise CheckpointNotFoundError(
            f"There are no weights at {path}.", hint="Check the path, or pull the checkpoint first."
        )
    return find_checkpoint(name)


def find_hub_reference(model: str) -> HubReference | None:
    """`model` as a hub reference, also for a published name without its owner; None if it is neither."""
    name, at, revision = model.partition("@")
    known = find_published(name)
    return parse_hub_reference(model if known is None else f"{known.id}{at}{revision}")
