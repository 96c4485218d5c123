"""`sa2va models`: the zoo, what a checkpoint wants, and what is wrong with a folder."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.config import parse_config, read_config
from sa2va_tools.model.fitting import build_empty
from sa2va_tools.model.memory import Work, advice, estimate, weight_bytes
from sa2va_tools.model.zoo import ZOO, published


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in NANO_FOLDER.iterdir():
        if file.suffix in {".json", ".safetensors"}:
            shutil.copy(file, copy)
    return copy


def _points(run, folder):
    result = run("models", "check", folder, "--json")
    found = json.loads(result.stdout)
    assert found["ok"] == (result.exit_code == 0)
    return {point["name"]: point for point in found["points"]}


def test_the_zoo_lists_every_checkpoint_with_sizes_and_scores(run):
    text = run("models").stdout
    assert all(one.id in text for one in ZOO)
    listed = {one["id"]: one for one in json.loads(run("models", "--json").stdout)}
    assert listed["ByteDance/Sa2VA-26B"]["weights_gib"]["bfloat16"] == pytest.approx(48.1)
    assert listed["ByteDance/Sa2VA-4B"]["published_scores"]["MeViS"] == 55.9
    assert not listed["ByteDance/Sa2VA-Qwen3-VL-4B"]["abilities"]["caption_region"]
    assert listed["kumuji/Sa2VA-i-1B"]["abilities"]["second_decoder"]


def test_a_checkpoint_is_found_by_its_id_or_its_name():
    assert published("sa2va-4b") is published("ByteDance/Sa2VA-4B") is not None
    assert published("nano") is None


def test_info_tells_abilities_and_memory(run):
    known = json.loads(run("models", "info", "Sa2VA-8B", "--json").stdout)
    assert known["family"] == "internvl+internlm2"
    text = run("models", "info", "Sa2VA-8B").stdout
    assert "sa2va pull ByteDance/Sa2VA-8B" in text
    here = json.loads(run("models", "info", "nano", "--objects", "3", "--json").stdout)
    assert here["abilities"]["caption_region"]
    assert here["memory_gib"]["float32"]["total"] > here["memory_gib"]["float32"]["weights"]
    assert run("models", "info", "nowhere").exit_code == 1


def test_a_whole_folder_is_whole(run, folder):
    points = _points(run, folder)
    assert list(points) == ["config", "files", "shards", "keys", "tokenizer", "template"]
    assert all(point["ok"] for point in points.values())


def _break_key(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["text_hidden_fcs.0.bias"] = tensors["text_hidden_fcs.0.bias"][:3]
    save_file(tensors, path)


def _break_shard(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _break_tokenizer(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("[SEG]", "[GES]"), encoding="utf-8")


def _break_config(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"model_type": "llava"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "point", "said"),
    [
        (_break_key, "keys", "model.safetensors: text_hidden_fcs.0.bias has the shape [3]"),
        (_break_shard, "shards", "model.safetensors is truncated"),
        (_break_tokenizer, "tokenizer", "[SEG]"),
        (_break_config, "config", "llava"),
        (lambda folder: (folder / "model.safetensors").unlink(), "files", "no *.safetensors"),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(run, folder, spoil, point, said):
    spoil(folder)
    found = _points(run, folder)[point]
    assert not found["ok"]
    assert said in found["detail"]
    assert found["remedy"]


def test_memory_grows_with_objects_and_shrinks_with_the_type():
    config = read_config(NANO_FOLDER)
    one, many = (estimate(config, "float32", Work(objects=count)) for count in (1, 16))
    assert many.grounding > 4 * one.grounding
    assert many.weights == one.weights == weight_bytes(build_empty(config), 4)
    half = estimate(config, "bfloat16", Work())
    assert half.weights == one.weights // 2
    assert half.total < one.total


def test_the_estimate_of_a_published_size_is_of_the_right_magnitude():
    """Sa2VA-4B: 3.94 billion parameters, so 7.3 GiB in bfloat16 before any work."""
    vision = {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "image_size": 448, "patch_size": 14,
    }  # fmt: skip
    language = {
        "model_type": "qwen2", "vocab_size": 151679, "hidden_size": 2048, "intermediate_size": 11008,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2,
    }  # fmt: skip
    config = parse_config({"model_type": "sa2va_chat", "vision_config": vision, "llm_config": language})
    weights = weight_bytes(build_empty(config), 2) / 2**30
    assert weights == pytest.approx(published("Sa2VA-4B").weights_gib("bfloat16"), rel=0.01)
    total = estimate(config, "bfloat16", Work()).total / 2**30
    assert weights + 0.5 < total < weights + 4
    free = int(12 * 2**30)
    assert "It fits" in advice(config, "bfloat16", Work(), free)
    assert "--dtype bfloat16" in advice(config, "float32", Work(), free)
    assert "--quantize nf4" in advice(config, "bfloat16", Work(), int(5 * 2**30))
    assert "smaller checkpoint" in advice(config, "bfloat16", Work(), 2**30, device="cpu")
