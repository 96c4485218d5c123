"""The weight files of a checkpoint: which they are, what they hold, and their tensors one by one.

Pickles are never opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa2va_tools.errors import CheckpointError, UnsupportedCheckpointError
from sa2va_tools.memory_errors import is_memory_error

if TYPE_CHECKING:
    from torch import Tensor

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.safetensors")
_DOWNLOAD_AGAIN = "Download the checkpoint again."


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's file and shape."""

    file: Path
    shape: tuple[int, ...]


def find_weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint; if it has an index, those that the index names.

    Raises CheckpointError if a file is missing, UnsupportedCheckpointError if there are only pickles.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in _read_index_files(index)]
        _require_files(folder, [file.name for file in files if not file.is_file()])
        return files
    files = sorted(folder.glob("*.safetensors"))
    if files:
        _require_files(folder, _find_missing_shards(files))
        return files
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt*")):
        raise UnsupportedCheckpointError(
            f"{folder} has only pickled weights, which can run code when they are read.",
            hint="Use a checkpoint with *.safetensors files, or convert it in a place that you trust.",
        )
    raise CheckpointError(f"There are no *.safetensors files in {folder}.", hint=_DOWNLOAD_AGAIN)


def _read_index_files(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index} is not an index of safetensors files: {error}.", hint=_DOWNLOAD_AGAIN
        ) from error
    if not names or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{index} lists no weight files.", hint=_DOWNLOAD_AGAIN)
    return names


def _find_missing_shards(files: Sequence[Path]) -> list[str]:
    """Of files whose names say that they are number k of n, all n must be there."""
    names = {file.name for file in files}
    sets = {(match[1], match[3]) for name in names if (match := _SHARD.fullmatch(name))}
    return [
        shard
        for stem, total in sorted(sets)
        for number in range(1, int(total) + 1)
        if (shard := f"{stem}-{number:0{len(total)}d}-of-{total}.safetensors") not in names
    ]


def _require_files(folder: Path, missing: Sequence[str]) -> None:
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}.", hint=_DOWNLOAD_AGAIN)


def read_tensor_index(files: Sequence[Path]) -> dict[str, TensorInfo]:
    """Names, files and shapes of all tensors, from the headers of the files. Raises CheckpointError for a
    truncated file, or a tensor that is in two files."""
    index: dict[str, TensorInfo] = {}
    for file in files:
        with _open(file) as opened:
            for key in opened.keys():  # noqa: SIM118  (safe_open is no mapping)
                if key in index:
                    raise CheckpointError(
                        f"{key} is in two files, {index[key].file.name} and {file.name}.",
                        hint=_DOWNLOAD_AGAIN,
                    )
                index[key] = TensorInfo(file, tuple(opened.get_slice(key).get_shape()))
    return index


def read_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor, one after the other: no more than one is in memory. Raises CheckpointError."""
    with _open(file) as opened:
        for key in opened.keys():  # noqa: SIM118
            yield key, opened.get_tensor(key)


@contextmanager
def _open(file: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        if is_memory_error(error):
            raise
        raise CheckpointError(
            f"{file} is truncated or not a safetensors file: {error}.", hint=_DOWNLOAD_AGAIN
        ) from error
