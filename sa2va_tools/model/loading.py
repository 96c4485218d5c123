"""A checkpoint's folder → modules on a device, and back. No remote code, no pickles.

Builds the modules without storage, sees that names and shapes fit, then streams each safetensors file
straight into the wanted dtype and device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sa2va_tools.errors import RequestError
from sa2va_tools.model.chat import Chat, load_chat
from sa2va_tools.model.config import (
    Sa2vaConfig,
    has_second_decoder,
    read_config,
    two_decoders,
    with_implementation,
    with_second_decoder,
)
from sa2va_tools.model.fitting import build_empty, fit
from sa2va_tools.model.key_mapping import KeyMap, Placement
from sa2va_tools.model.memory import require_room
from sa2va_tools.model.quantised import Quantisation, filled, quantise
from sa2va_tools.model.sa2va import Sa2VA, key_map
from sa2va_tools.model.spread import Spread
from sa2va_tools.model.stock_decoder import stock_decoder
from sa2va_tools.model.tokenizer import Tokenizer, load_tokenizer
from sa2va_tools.model.weight_files import read_heads, read_tensors, weight_files
from sa2va_tools.progress import CancelToken


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint in memory."""

    config: Sa2vaConfig
    modules: Sa2VA
    tokenizer: Tokenizer
    chat: Chat
    revision: str
    """First 12 hex digits of a hash over the config and the sizes and heads of the weight files."""


def load_checkpoint(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    others: Sequence[torch.device] = (),
    quantize: Quantisation | None = None,
    sam2_decoder: Path | None = None,
    grounding: str = "transformers",
    cancel: CancelToken | None = None,
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> Loaded:
    """Load `folder` onto `device`; the language model's layers also onto `others`, where it is too large for
    one, and with their weights in few bits where `quantize` says so. `sam2_decoder` holds SAM-2's own mask
    decoder, for mode `sa2va-i` where the checkpoint has only the fine-tuned one. Raises CheckpointError and
    its kinds, which name the file and the keys, and OutOfMemoryError where the weights alone do not fit."""
    config = read_config(folder)
    files = weight_files(folder)
    tokenizer = load_tokenizer(folder, config.image_token)
    chat = load_chat(folder, config)
    heads = read_heads(files)
    borrows = sam2_decoder is not None
    if borrows and has_second_decoder(heads):
        raise RequestError(
            f"{folder.name} has both mask decoders already: there is nothing to borrow.",
            hint="Leave out --sam2-decoder.",
        )
    if sam2_decoder is not None and grounding != "transformers":
        raise RequestError(
            "A borrowed SAM-2 decoder goes with the grounding 'transformers' only.",
            hint="Leave out --sam2-decoder, or SA2VA_GROUNDING.",
        )
    config = two_decoders(config) if borrows else with_second_decoder(config, heads)
    config = with_implementation(config, grounding)
    modules = build_empty(config)
    fit(config, heads, modules, stock_decoder=borrows).require(folder)
    tokenizer.require_room(int(config.language["vocab_size"]), folder)
    modules.mllm.image_token_id = tokenizer.image_id
    require_room(config, modules, dtype, (device, *others), quantize)
    spread = Spread.over(modules, (device, *others), dtype.itemsize)
    if quantize is not None:
        quantise(modules.mllm.layers, quantize, dtype, device)
    filler = _Filler(modules, key_map(config, stock_decoder=borrows), dtype, spread, cancel)
    if borrows and sam2_decoder is not None:
        for name, tensor in stock_decoder(sam2_decoder, modules).items():
            filler.put(name, tensor)
    for number, file in enumerate(files):
        filler.read(file)
        on_file(number + 1, len(files))
    filler.finish()
    return Loaded(config, modules.eval(), tokenizer, chat, _revision(folder, files))


def save_checkpoint(
    modules: Sa2VA, config: dict[str, Any], folder: Path, *, dtype: torch.dtype = torch.float16
) -> None:
    """Write config.json and model.safetensors under upstream's names. A tied lm_head is left out.
    Each file is written whole under another name, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    state = modules.state_dict()
    if modules.config.tie_word_embeddings:
        state.pop(modules.mllm.head_name, None)
    upstream = key_map(modules.config).to_upstream(state)
    tensors = {name: tensor.to(dtype).contiguous().cpu().clone() for name, tensor in upstream.items()}
    part = folder / "model.safetensors.part"
    save_file(tensors, part, metadata={"format": "pt"})
    part.replace(folder / "model.safetensors")
    text = folder / "config.json.part"
    text.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    text.replace(folder / "config.json")


class _Filler:
    """Puts tensors, which fit, into modules by name."""

    def __init__(
        self,
        modules: Sa2VA,
        keys: KeyMap,
        dtype: torch.dtype,
        spread: Spread,
        cancel: CancelToken | None,
    ) -> None:
        self.modules, self.keys, self.dtype, self.spread = modules, keys, dtype, spread
        self.cancel = cancel
        self.exact = {name for name, _ in modules.named_buffers()}
        self.stacks: dict[str, dict[int, Tensor]] = {}

    def read(self, file: Path) -> None:
        for key, tensor in read_tensors(file):
            if self.cancel is not None:
                self.cancel.raise_if_cancelled()
            placement = self.keys.place(key)
            if placement is not None:
                self._place(placement, tensor.to(self._dtype_of(placement.native[0])))

    def put(self, name: str, tensor: Tensor) -> None:
        """`tensor` is the parameter or buffer `name` of the modules."""
        placed = tensor.to(device=self.spread.place_of(name), dtype=self._dtype_of(name))
        # One that is not converted would hold all of its file in memory.
        _assign(self.modules, name, placed.clone() if name in self.exact else placed)

    def _dtype_of(self, name: str) -> torch.dtype:
        """Buffers are what positions are computed from: always float32."""
        return torch.float32 if name in self.exact else self.dtype

    def _place(self, placement: Placement, tensor: Tensor) -> None:
        if placement.parts > 1:
            rows = self.stacks.setdefault(placement.native[0], {})
            rows[placement.part] = tensor
            if len(rows) < placement.parts:
                return
            pieces = {placement.native[0]: torch.cat([rows[part] for part in range(placement.parts)])}
        else:
            pieces = placement.pieces(tensor)
        for name, piece in pieces.items():
            self.put(name, piece.contiguous())

    def finish(self) -> None:
        """A head that no file held shares the embeddings' weights; one that is there is used as it is,
        whatever the config says."""
        if self.modules.get_parameter(self.modules.mllm.head_name).is_meta:
            self.modules.mllm.tie_head()
        _recompute_buffers(self.modules, self.spread.home)
        self.spread.connect(self.modules)


def _assign(modules: nn.Module, name: str, tensor: Tensor) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = modules.get_submodule(owner_name)
    if leaf in owner._parameters:
        owner._parameters[leaf] = filled(owner._parameters[leaf], tensor)
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


def _revision(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in files:
        digest.update(f"{file.name}:{file.stat().st_size}".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(65536))
            opened.seek(-min(65536, file.stat().st_size), 2)
            digest.update(opened.read())
    return digest.hexdigest()[:12]
