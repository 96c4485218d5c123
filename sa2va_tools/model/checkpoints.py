"""Names of checkpoints → folders. Knows the embedded nano and local folders; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

from sa2va_tools.errors import CheckpointNotFoundError

NANO = "nano"
NANO_FOLDER = Path(__file__).parent / "nano"


def checkpoint_folder(model: str | Path) -> Path:
    """The folder of `"nano"`, or `model` as a path. Raises CheckpointNotFoundError."""
    if str(model) == NANO:
        return NANO_FOLDER
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise CheckpointNotFoundError(
            f"There is no checkpoint {str(model)!r}: it is neither 'nano' nor a folder.",
            hint="Give 'nano', or the folder of a downloaded Sa2VA checkpoint "
            "(config.json, *.safetensors, tokenizer.json).",
        )
    return folder
