"""The weight files of a checkpoint's folder: which they are, what they hold, and their tensors one by one.

Pickles are never opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sa2va_tools.errors import CheckpointError, UnsupportedCheckpointError
from sa2va_tools.shortage import lacks_memory

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.safetensors")
_AGAIN = "Download the checkpoint again."


@dataclass(frozen=True, slots=True)
class TensorHead:
    """Where a tensor lies, and its shape."""

    file: Path
    shape: tuple[int, ...]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, from its index where there is one.

    Raises UnsupportedCheckpointError for pickles, CheckpointError for missing files.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index} is not a safetensors index: {error}.", hint=_AGAIN) from error
        if not names or not all(isinstance(name, str) for name in names):
            raise CheckpointError(f"{index} names no files of weights.", hint=_AGAIN)
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(f"{folder} lacks {', '.join(missing)}, named in its index.", hint=_AGAIN)
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        _require_all_shards(files)
        return files
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt*")):
        raise UnsupportedCheckpointError(
            f"{folder} holds pickled weights, which can run code when they are read.",
            hint="Use a checkpoint with *.safetensors files, or convert it in a place you trust.",
        )
    raise CheckpointError(f"There are no *.safetensors files in {folder}.", hint=_AGAIN)


def _require_all_shards(files: Sequence[Path]) -> None:
    """Files that call themselves number k of n must be n."""
    for stem, total in {(match[1], match[3]) for file in files if (match := _SHARD.fullmatch(file.name))}:
        wanted = [
            f"{stem}-{number:0{len(total)}d}-of-{total}.safetensors" for number in range(1, int(total) + 1)
        ]
        missing = [name for name in wanted if name not in {file.name for file in files}]
        if missing:
            raise CheckpointError(f"{files[0].parent} lacks {', '.join(missing)}.", hint=_AGAIN)


def read_heads(files: Sequence[Path]) -> dict[str, TensorHead]:
    """Names and shapes, from the files' heads alone. CheckpointError for a file that is cut off, or a tensor
    that two files hold."""
    heads: dict[str, TensorHead] = {}
    for file in files:
        with _opened(file) as opened:
            for key in opened.keys():  # noqa: SIM118  (safe_open is no mapping)
                if key in heads:
                    raise CheckpointError(
                        f"Both {heads[key].file.name} and {file.name} hold {key}.", hint=_AGAIN
                    )
                heads[key] = TensorHead(file, tuple(opened.get_slice(key).get_shape()))
    return heads


def read_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor, one after the other, so that no more than one is in memory."""
    with _opened(file) as opened:
        for key in opened.keys():  # noqa: SIM118
            yield key, opened.get_tensor(key)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        if lacks_memory(error):
            raise
        raise CheckpointError(f"{file} is truncated or no safetensors file: {error}.", hint=_AGAIN) from error
