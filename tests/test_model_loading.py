"""Checkpoint folders: good ones can be loaded and saved; errors about bad ones name the problem."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from golden_data import find_golden
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from sa2va_tools.errors import (
    CheckpointError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    RequestError,
    UnsupportedCheckpointError,
)
from sa2va_tools.model.checkpoints.config_file import parse_config, read_config
from sa2va_tools.model.checkpoints.loader import load_checkpoint, save_checkpoint
from sa2va_tools.model.checkpoints.safetensors_files import TensorInfo, find_weight_files
from sa2va_tools.model.checkpoints.validation import validate_state_dict
from sa2va_tools.model.config import detect_second_decoder
from sa2va_tools.model.device.placement import choose_device
from sa2va_tools.model.hub.names import NANO_FOLDER, find_checkpoint
from sa2va_tools.model.text.tokenizer import load_tokenizer
from sa2va_tools.run import Run

CPU = torch.device("cpu")
KEYS = find_golden("keys")


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded checkpoint that a test may damage."""
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in NANO_FOLDER.iterdir():
        if file.suffix in {".json", ".safetensors"}:
            shutil.copy(file, copy)
    return copy


def _load(folder):
    return load_checkpoint(folder, devices=(CPU,), dtype=torch.float32, run=Run())


def _change_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def _change_weights(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_saving_undoes_loading_bit_for_bit(folder, tmp_path):
    loaded = _load(folder)
    save_checkpoint(loaded.modules, loaded.config.raw, tmp_path / "again")
    ours, theirs = (
        load_file(tmp_path / "again" / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert not any(parameter.is_meta for parameter in loaded.modules.parameters())
    assert not any(buffer.is_meta for buffer in loaded.modules.buffers())


def test_shards_of_an_index_load_as_one_file_does(folder):
    whole = _load(folder)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, keys in halves.items():
        save_file({key: tensors[key] for key in keys}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {key: file for file, keys in halves.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    sharded = _load(folder)
    for ours, theirs in zip(sharded.modules.parameters(), whole.modules.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors"):
        _load(folder)


def test_a_truncated_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated"):
        _load(folder)


def test_a_wrong_shape_names_file_key_and_both_shapes(folder):
    def grow(tensors):
        tensors["text_hidden_fcs.0.bias"] = torch.zeros(3)

    _change_weights(folder, grow)
    with pytest.raises(CheckpointMismatchError, match=r"model\.safetensors: text_hidden_fcs\.0\.bias.*\[3\]"):
        _load(folder)


def test_missing_and_unknown_keys_are_listed(folder):
    def swap(tensors):
        tensors["text_hidden_fcs.9.bias"] = tensors.pop("text_hidden_fcs.2.bias")

    _change_weights(folder, swap)
    with pytest.raises(CheckpointMismatchError) as caught:
        _load(folder)
    assert "text_hidden_fcs.2.bias" in str(caught.value)
    assert "text_hidden_fcs.9.bias" in str(caught.value)


def test_a_missing_head_is_an_error_unless_the_config_ties_it(folder):
    _change_config(folder, lambda config: config["llm_config"].update(tie_word_embeddings=False))
    with pytest.raises(CheckpointMismatchError, match="lm_head"):
        _load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(model_type="llava"), "llava"),
        (lambda config: config["llm_config"].update(model_type="mamba"), "mamba"),
        (lambda config: config.update(grounding_encoder="SAM3"), "SAM-3"),
        (lambda config: config.pop("vision_config"), "not a Sa2VA checkpoint"),
    ],
)
def test_other_models_are_refused_by_name(folder, change, message):
    _change_config(folder, change)
    with pytest.raises(UnsupportedCheckpointError, match=message):
        _load(folder)


def test_an_unknown_grounding_field_is_named(folder):
    _change_config(folder, lambda config: config["grounding_config"].update(imagesize=3))
    with pytest.raises(CheckpointError, match="imagesize"):
        _load(folder)


def test_pickled_weights_are_refused_with_the_reason(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedCheckpointError, match="can run code"):
        find_weight_files(folder)


def test_a_tokenizer_without_seg_is_refused_before_the_weights(folder):
    (folder / "model.safetensors").write_bytes(b"never read")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("[SEG]", "[GES]"), encoding="utf-8")
    with pytest.raises(CheckpointMismatchError, match=r"\[SEG\]"):
        _load(folder)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match="not 'nano', an existing folder"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointNotFoundError, match=r"config\.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="JSON"):
        read_config(tmp_path)


def test_a_missing_device_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(RequestError, match="cuda"):
        choose_device("cuda")


def _key_lists():
    found = sorted(path.stem for path in KEYS.glob("*.json")) if KEYS else []
    missing = pytest.param("", marks=pytest.mark.skip(reason="golden data is missing: no key lists"))
    return found or [missing]


@pytest.mark.parametrize("name", _key_lists())
def test_keys_of_a_published_checkpoint_map_one_to_one(name):
    recorded = json.loads((KEYS / f"{name}.json").read_text(encoding="utf-8"))
    raw = {"model_type": "sa2va_chat", **recorded["config"]}
    file = Path("model.safetensors")
    index = {key: TensorInfo(file, tuple(shape)) for key, shape in recorded["keys"].items()}
    config = detect_second_decoder(parse_config(raw, source=name), index)
    report = validate_state_dict(config, index)
    assert report.matches, report
    key, info = index.popitem()
    assert validate_state_dict(config, index).missing == (key,)
    other = TensorInfo(file, (*info.shape, 2))
    assert list(validate_state_dict(config, {**index, key: other}).mismatches) == [key]
    index[key] = index["no.such.key"] = info
    assert validate_state_dict(config, index).unknown == ("no.such.key",)


def test_vocab_and_merges_give_the_tokens_of_tokenizer_json(tmp_path):
    source = find_golden("qwen3_vl/checkpoint")
    if source is None:
        pytest.skip("golden data is missing: qwen3_vl")
    files = ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json")
    for name in (*files, "tokenizer.json"):
        shutil.copy(source / name, tmp_path)
    added = json.loads((tmp_path / "added_tokens.json").read_text(encoding="utf-8"))
    added["<IMG_CONTEXT>"] = max(added.values()) + 1
    (tmp_path / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    whole = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer.json").unlink()
    parts = load_tokenizer(tmp_path)
    for text in (
        "<|im_start|>user\nSegment the dog.<|im_end|>\n",
        "[SEG] and <p>a cat</p> [SEG]. Äß 你好",
    ):
        assert parts.encode(text) == whole(text)["input_ids"]
        assert parts.decode(parts.encode(text)) == text
    assert parts.eos_id == whole.convert_tokens_to_ids("<|im_end|>")


def test_a_broken_tokenizer_config_is_named(folder):
    (folder / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        _load(folder)


@pytest.mark.parametrize("name", ["hidden_size", "patch_size"])
def test_a_missing_size_is_named(folder, name):
    _change_config(folder, lambda config: config["vision_config"].pop(name))
    with pytest.raises(CheckpointError, match=name):
        _load(folder)
