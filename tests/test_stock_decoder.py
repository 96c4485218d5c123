"""With a stock SAM-2 decoder, a plain checkpoint has mode `sa2va-i`."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from golden_data import find_golden
from safetensors.torch import load_file, save_file

from sa2va_tools.errors import CheckpointMismatchError, CheckpointNotFoundError
from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.run import Run

UPSTREAM = "grounding_encoder.sam2_model.sam_mask_decoder."


def _load(folder, decoder=None):
    return load_checkpoint(
        folder, devices=(torch.device("cpu"),), dtype=torch.float32, sam2_decoder=decoder, run=Run()
    )


def _nano_decoder(path, prefix="sam_mask_decoder.", change=lambda tensor: tensor):
    """The nano's own decoder as a file of stock weights, in facebookresearch/sam2's spelling."""
    tensors = load_file(NANO_FOLDER / "model.safetensors")
    decoder = {
        prefix + key.removeprefix(UPSTREAM): change(tensor)
        for key, tensor in tensors.items()
        if key.startswith(UPSTREAM)
    }
    save_file({**decoder, "memory_attention.norm.weight": torch.ones(3)}, path)
    return path


def test_a_stock_decoder_makes_a_sa2va_i_checkpoint(tmp_path):
    """The golden Sa2VA-i checkpoint, split into a plain checkpoint and a stock decoder."""
    source = find_golden("sa2va_i/checkpoint")
    if source is None:
        pytest.skip("golden data is missing: sa2va_i")
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, tmp_path / file.name)
    tensors = load_file(source / "model.safetensors")
    modified = UPSTREAM.replace("decoder.", "decoder_modified.")
    own = {key: tensors.pop(key) for key in list(tensors) if key.startswith(UPSTREAM)}
    plain = {key.replace(modified, UPSTREAM): tensor for key, tensor in tensors.items()}
    save_file(plain, tmp_path / "model.safetensors")
    stock = tmp_path / "stock" / "model.safetensors"
    stock.parent.mkdir()
    save_file({key.removeprefix("grounding_encoder.sam2_"): tensor for key, tensor in own.items()}, stock)
    whole, together = _load(source), _load(tmp_path, stock.parent)
    assert together.config.capabilities.second_decoder
    theirs = whole.modules.state_dict()
    for name, tensor in together.modules.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("prefix", ["sam_mask_decoder.", "model.sam_mask_decoder."])
def test_mode_sa2va_i_runs_with_a_stock_decoder(tmp_path, prefix):
    decoder = _nano_decoder(tmp_path / "decoder.safetensors", prefix)
    runtime = Sa2vaRuntime.load(NANO_FOLDER, device="cpu", sam2_decoder=decoder)
    assert runtime.capabilities.second_decoder
    pictures = [np.full((40, 60, 3), 40 * number, np.uint8) for number in range(4)]

    class Clip:
        def __len__(self):
            return len(pictures)

        def cache_key(self, position):
            return None

        def frames(self, positions):
            return (pictures[position] for position in positions)

    prompt = np.zeros((1, runtime.config.sam2.hidden_dim), np.float32)
    with runtime.session(Run()) as session:
        tracked = session.masks.track_words(Clip(), prompt, mode="sa2va-i", prompt_positions=(0, 3))
        frames = list(tracked)
    assert sorted(frame.position for frame in frames) == [0, 1, 2, 3]


def test_names_of_transformers_are_understood(tmp_path):
    loaded = _load(NANO_FOLDER)
    decoder = {
        name.removeprefix("sam2."): tensor + 1
        for name, tensor in loaded.modules.state_dict().items()
        if name.startswith("sam2.mask_decoder.")
    }
    save_file(decoder, tmp_path / "model.safetensors")
    together = _load(NANO_FOLDER, tmp_path).modules.sam2
    first = next(iter(loaded.modules.sam2.mask_decoder.parameters()))
    assert torch.equal(next(iter(together.mask_decoder.parameters())), first + 1)
    assert torch.equal(next(iter(together.language_mask_decoder.parameters())), first)


def test_a_wrong_size_and_a_missing_decoder_are_named(tmp_path):
    wrong = _nano_decoder(tmp_path / "wrong.safetensors", change=lambda tensor: tensor[:1])
    with pytest.raises(CheckpointMismatchError, match=r"wrong\.safetensors.*has the shape"):
        _load(NANO_FOLDER, wrong)
    save_file({"a": torch.ones(1)}, tmp_path / "none.safetensors")
    with pytest.raises(CheckpointMismatchError, match="of SAM-2, such as"):
        _load(NANO_FOLDER, tmp_path / "none.safetensors")
    with pytest.raises(CheckpointNotFoundError, match="nowhere"):
        _load(NANO_FOLDER, tmp_path / "nowhere")
