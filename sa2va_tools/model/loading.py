"""A checkpoint's folder → modules on a device, and back. No remote code, no pickles.

Builds the modules without storage, then streams each safetensors file straight into the wanted
dtype and device. Every key must be known and every parameter filled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sa2va_tools.errors import CheckpointError, CheckpointMismatchError, UnsupportedCheckpointError
from sa2va_tools.model.config import Sa2vaConfig, read_config, with_second_decoder
from sa2va_tools.model.key_mapping import KeyMap, Placement
from sa2va_tools.model.sa2va import Sa2VA, key_map
from sa2va_tools.model.tokenizer import Tokenizer, load_tokenizer
from sa2va_tools.progress import CancelToken

_AGAIN = "Download the checkpoint again."


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint in memory."""

    config: Sa2vaConfig
    modules: Sa2VA
    tokenizer: Tokenizer
    revision: str
    """First 12 hex digits of a hash over the config and the sizes and heads of the weight files."""


def load_checkpoint(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    cancel: CancelToken | None = None,
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> Loaded:
    """Load `folder`. Raises CheckpointError and its kinds; names the file and the keys."""
    config = read_config(folder)
    files = weight_files(folder)
    tokenizer = load_tokenizer(folder)
    config = with_second_decoder(config, _keys(files))
    modules = build_empty(config)
    modules.mllm.image_token_id = tokenizer.image_id
    filler = _Filler(modules, key_map(config), dtype, device, cancel)
    for number, file in enumerate(files):
        filler.read(file)
        on_file(number + 1, len(files))
    filler.finish(config)
    return Loaded(config, modules.eval(), tokenizer, _revision(folder, files))


def build_empty(config: Sa2vaConfig) -> Sa2VA:
    """The modules on the meta device: names and shapes, no storage."""
    with torch.device("meta"):
        return Sa2VA(config)


def save_checkpoint(
    modules: Sa2VA, config: dict[str, Any], folder: Path, *, dtype: torch.dtype = torch.float16
) -> None:
    """Write config.json and model.safetensors under upstream's names. A tied lm_head is left out.
    Each file is written whole under another name, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    state = modules.state_dict()
    if modules.config.tie_word_embeddings:
        state.pop("mllm.language_model.lm_head.weight", None)
    upstream = key_map(modules.config).to_upstream(state)
    tensors = {name: tensor.to(dtype).contiguous().cpu().clone() for name, tensor in upstream.items()}
    part = folder / "model.safetensors.part"
    save_file(tensors, part, metadata={"format": "pt"})
    part.replace(folder / "model.safetensors")
    text = folder / "config.json.part"
    text.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    text.replace(folder / "config.json")


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
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(f"{folder} lacks {', '.join(missing)}, named in its index.", hint=_AGAIN)
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt*")):
        raise UnsupportedCheckpointError(
            f"{folder} holds pickled weights, which can run code when they are read.",
            hint="Use a checkpoint with *.safetensors files, or convert it in a place you trust.",
        )
    raise CheckpointError(f"There are no *.safetensors files in {folder}.", hint=_AGAIN)


class _Filler:
    """Puts tensors into modules by name, and keeps account."""

    def __init__(
        self,
        modules: nn.Module,
        keys: KeyMap,
        dtype: torch.dtype,
        device: torch.device,
        cancel: CancelToken | None,
    ) -> None:
        self.modules, self.keys, self.dtype, self.device = modules, keys, dtype, device
        self.cancel = cancel
        self.expected = {name: tensor.shape for name, tensor in modules.state_dict().items()}
        self.filled: set[str] = set()
        self.unknown: list[str] = []
        self.stacks: dict[str, dict[int, Tensor]] = {}

    def read(self, file: Path) -> None:
        for key, tensor in _tensors(file):
            if self.cancel is not None:
                self.cancel.raise_if_cancelled()
            placement = self.keys.place(key)
            if placement is None or not all(name in self.expected for name in placement.native):
                self.unknown.append(key)
                continue
            self._put(file, key, placement, tensor.to(device=self.device, dtype=self.dtype))

    def _put(self, file: Path, key: str, placement: Placement, tensor: Tensor) -> None:
        if placement.kind == "stack":
            rows = self.stacks.setdefault(placement.native[0], {})
            rows[placement.part] = tensor
            if len(rows) < placement.parts:
                return
            pieces = {placement.native[0]: torch.cat([rows[part] for part in range(placement.parts)])}
        else:
            pieces = placement.pieces(tensor)
        for name, piece in pieces.items():
            if piece.shape != self.expected[name]:
                raise CheckpointMismatchError(
                    f"{file.name}: {key} has the shape {list(tensor.shape)}; "
                    f"the config promises {list(self.expected[name])} for {name}.",
                    hint="config.json and weights are not of the same checkpoint.",
                )
            _assign(self.modules, name, piece.contiguous())
            self.filled.add(name)

    def finish(self, config: Sa2vaConfig) -> None:
        missing = sorted(set(self.expected) - self.filled)
        head = "mllm.language_model.lm_head.weight"
        tied = config.tie_word_embeddings and head in missing
        if tied:
            missing.remove(head)
        if missing or self.unknown:
            raise CheckpointMismatchError(
                f"The weights do not fit the config: {len(missing)} missing ({_some(missing)}), "
                f"{len(self.unknown)} unknown ({_some(sorted(self.unknown))}).",
                hint="config.json and weights are not of the same checkpoint, or of a family not supported.",
            )
        if tied:  # a head that the files do hold is used as it is, whatever the config says
            language: Any = self.modules.get_submodule("mllm.language_model")
            language.lm_head.weight = language.get_input_embeddings().weight
        _recompute_buffers(self.modules, self.device)


def _keys(files: list[Path]) -> list[str]:
    """Names from the headers alone."""
    names: list[str] = []
    for file in files:
        with _opened(file) as opened:
            names += opened.keys()
    return names


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    with _opened(file) as opened:
        for key in opened.keys():  # noqa: SIM118  (safe_open is no mapping)
            yield key, opened.get_tensor(key)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is truncated or no safetensors file: {error}.", hint=_AGAIN) from error


def _assign(modules: nn.Module, name: str, tensor: Tensor) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = modules.get_submodule(owner_name)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


def _recompute_buffers(modules: nn.Module, device: torch.device) -> None:
    """Buffers that no checkpoint stores (rotary frequencies, position numbers) are still without
    storage: each owner is built once more, small, and its buffers are taken over."""
    for module in modules.modules():
        lacking = [name for name, buffer in module._buffers.items() if buffer is not None and buffer.is_meta]
        if not lacking:
            continue
        made: Any = type(module)(config=module.config)
        for name in lacking:
            module._buffers[name] = made._buffers[name].to(device)


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "") if names else "none"


def _revision(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in files:
        digest.update(f"{file.name}:{file.stat().st_size}".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(65536))
            opened.seek(-min(65536, file.stat().st_size), 2)
            digest.update(opened.read())
    return digest.hexdigest()[:12]
