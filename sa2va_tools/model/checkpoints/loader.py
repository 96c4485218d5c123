"""A checkpoint's folder → modules on a device, and back. Runs no code of the checkpoint, and reads no
pickles.

Builds the modules without storage, checks names and shapes, then reads each safetensors file tensor by
tensor, straight into the wanted dtype and onto the right device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sa2va_tools.atomic import update_folder
from sa2va_tools.errors import RequestError
from sa2va_tools.model.checkpoints.config_file import read_config
from sa2va_tools.model.checkpoints.device_map import DeviceMap
from sa2va_tools.model.checkpoints.memory_estimate import require_weight_memory
from sa2va_tools.model.checkpoints.quantization import Quantization, make_parameter, quantize_layers
from sa2va_tools.model.checkpoints.safetensors_files import find_weight_files, read_tensor_index, read_tensors
from sa2va_tools.model.checkpoints.stock_decoder import read_stock_decoder
from sa2va_tools.model.checkpoints.validation import validate_state_dict
from sa2va_tools.model.config import Sa2vaConfig, add_second_decoder, has_second_decoder
from sa2va_tools.model.key_mapping import KeyMap, Placement
from sa2va_tools.model.sa2va import Sa2VA, build_empty, key_map
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.model.text.chat_templates import Chat, load_chat
from sa2va_tools.model.text.tokenizer import Tokenizer, load_tokenizer
from sa2va_tools.run import Run
from sa2va_tools.wording import setting

_HASHED_BYTES = 65536


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint in memory."""

    config: Sa2vaConfig
    modules: Sa2VA
    tokenizer: Tokenizer
    chat: Chat
    revision: str
    """12 hex digits of a hash of the config and of the sizes, beginnings and ends of the weight files."""


def load_checkpoint(
    folder: Path,
    *,
    devices: Sequence[torch.device],
    dtype: torch.dtype,
    quantize: Quantization | None = None,
    sam2_decoder: Path | None = None,
    sam2_class: type[Sam2] = Sam2,
    run: Run,
) -> LoadedCheckpoint:
    """Load `folder` onto the first of `devices`; if there are several, the language model's layers are spread
    over all of them. `sam2_decoder` is the path of SAM-2's own mask decoder, for mode `sa2va-i` with a
    checkpoint that has only the fine-tuned one.

    Raises CheckpointError and its kinds, which name the file and the keys, RequestError, OutOfMemoryError if
    the weights do not fit, and CancelledError.
    """
    config = read_config(folder)
    files = find_weight_files(folder)
    tokenizer = load_tokenizer(folder, config.family)
    chat = load_chat(folder, config)
    index = read_tensor_index(files)
    has_stock_decoder = sam2_decoder is not None
    has_both_decoders = has_second_decoder(index)
    if has_stock_decoder and has_both_decoders:
        raise RequestError(
            f"{folder.name} already has both mask decoders.", hint=f"Leave out {setting('sam2_decoder')}."
        )
    if has_stock_decoder or has_both_decoders:
        config = add_second_decoder(config)
    modules = build_empty(config, sam2_class)
    validate_state_dict(config, index, modules, stock_decoder=has_stock_decoder).require_match(folder)
    tokenizer.require_embeddings(int(config.language["vocab_size"]), folder)
    modules.mllm.image_token_id = tokenizer.image_id
    require_weight_memory(config, modules, dtype, devices, quantize)
    device_map = DeviceMap.plan(modules, devices, dtype)
    if quantize is not None:
        quantize_layers(modules.mllm.layers, quantize, dtype, devices[0])
    loader = _WeightLoader(modules, dtype, device_map, run)
    if sam2_decoder is not None:
        loader.set_tensors(read_stock_decoder(sam2_decoder, modules))
    keys = key_map(config, sam2_class, stock_decoder=has_stock_decoder)
    for number, file in enumerate(files, start=1):
        loader.load_file(file, keys)
        run.report("load", number, len(files), f"loading {folder.name}")
    loader.finish()
    return LoadedCheckpoint(config, modules.eval(), tokenizer, chat, _hash_revision(folder, files))


def save_checkpoint(
    modules: Sa2VA, config: dict[str, Any], folder: Path, *, dtype: torch.dtype = torch.float16
) -> None:
    """Write config.json, and model.safetensors under upstream's names. A tied lm_head is left out. The files
    appear when both are complete. Raises StoreError if the disk refuses."""
    state = modules.state_dict()
    if modules.config.tie_word_embeddings:
        state.pop(modules.mllm.head_name, None)
    upstream = key_map(modules.config, type(modules.sam2)).to_upstream(state)
    tensors = {name: tensor.to(dtype).contiguous().cpu().clone() for name, tensor in upstream.items()}
    with update_folder(folder) as part:
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
        (part / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


class _WeightLoader:
    """Gives modules without storage their weights; names and shapes have been checked."""

    def __init__(self, modules: Sa2VA, dtype: torch.dtype, device_map: DeviceMap, run: Run) -> None:
        self._modules = modules
        self._dtype = dtype
        self._device_map = device_map
        self._run = run
        self._buffers = {name for name, _ in modules.named_buffers()}
        self._stacks: dict[str, dict[int, Tensor]] = {}
        """Blocks of rows that wait for the others of their tensor."""

    def load_file(self, file: Path, keys: KeyMap) -> None:
        for key, tensor in read_tensors(file):
            self._run.raise_if_cancelled()
            placement = keys.place(key)
            if placement is not None:
                # Converted first: a block that waits for others would keep its whole file in memory.
                tensor = tensor.to(self._choose_dtype(placement.native[0]))
                self.set_tensors(self._complete(placement, tensor))

    def _complete(self, placement: Placement, tensor: Tensor) -> dict[str, Tensor]:
        """The native tensors that `tensor` completes; none while blocks of a stack are missing."""
        if placement.parts == 1:
            return placement.pieces(tensor)
        name = placement.native[0]
        blocks = self._stacks.setdefault(name, {})
        blocks[placement.part] = tensor
        if len(blocks) < placement.parts:
            return {}
        del self._stacks[name]
        return {name: torch.cat([blocks[part] for part in range(placement.parts)])}

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        """`tensors` are parameters and buffers by their names in the modules."""
        for name, tensor in tensors.items():
            tensor = tensor.to(self._choose_dtype(name)).contiguous()
            device = self._device_map.find_device(name)
            owner_name, _, leaf = name.rpartition(".")
            owner = self._modules.get_submodule(owner_name)
            if name in self._buffers:
                # A copy: a tensor that is not converted would keep its whole file in memory.
                owner._buffers[leaf] = tensor.to(device, copy=True)
            else:
                owner._parameters[leaf] = make_parameter(owner._parameters[leaf], tensor, device)

    def _choose_dtype(self, name: str) -> torch.dtype:
        """Buffers are float32: positions are computed from them."""
        return torch.float32 if name in self._buffers else self._dtype

    def finish(self) -> None:
        """If no file holds the head, it shares the weights of the embeddings, whatever the config says."""
        if self._modules.get_parameter(self._modules.mllm.head_name).is_meta:
            self._modules.mllm.tie_head()
        _recompute_buffers(self._modules, self._device_map.main)
        self._device_map.connect(self._modules)


def _recompute_buffers(modules: nn.Module, device: torch.device) -> None:
    """Buffers that no checkpoint stores (rotary frequencies, position numbers) still have no storage: their
    owners, which are small, are built again, and the new buffers are taken."""
    for module in modules.modules():
        empty = [name for name, buffer in module._buffers.items() if buffer is not None and buffer.is_meta]
        if not empty:
            continue
        rebuilt: Any = type(module)(config=module.config)
        for name in empty:
            module._buffers[name] = rebuilt._buffers[name].to(device)


def _hash_revision(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(_HASHED_BYTES))
            opened.seek(-min(_HASHED_BYTES, size), 2)
            digest.update(opened.read())
    return digest.hexdigest()[:12]
