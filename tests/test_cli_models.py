"""`sa2va models`: the published checkpoints, the memory that they need, and what is wrong with a folder."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from sa2va_server.cli.vocabulary import SHELL
from sa2va_tools.model.checkpoints.config_file import parse_config, read_config
from sa2va_tools.model.checkpoints.memory_estimate import (
    Work,
    advise_on_memory,
    count_weight_bytes,
    estimate_memory,
)
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.hub.published import PUBLISHED_CHECKPOINTS, find_published, make_published_config
from sa2va_tools.model.sa2va import build_empty
from sa2va_tools.wording import spell


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


def test_the_list_has_every_checkpoint_with_sizes_and_scores(run):
    text = run("models").stdout
    assert all(one.id in text for one in PUBLISHED_CHECKPOINTS)
    listed = {one["id"]: one for one in json.loads(run("models", "--json").stdout)}
    assert listed["ByteDance/Sa2VA-26B"]["weights_gib"]["bfloat16"] == pytest.approx(48.1)
    assert listed["ByteDance/Sa2VA-4B"]["published_scores"]["MeViS"] == 55.9
    assert not listed["ByteDance/Sa2VA-Qwen3-VL-4B"]["abilities"]["caption_region"]
    assert listed["kumuji/Sa2VA-i-1B"]["abilities"]["second_decoder"]


def test_a_checkpoint_is_found_by_its_id_or_its_name():
    assert find_published("sa2va-4b") is find_published("ByteDance/Sa2VA-4B") is not None
    assert find_published("nano") is None


def test_info_prints_abilities_and_memory(run):
    known = json.loads(run("models", "info", "Sa2VA-8B", "--json").stdout)
    assert known["family"] == "internvl+internlm2"
    text = run("models", "info", "Sa2VA-8B").stdout
    assert "sa2va pull ByteDance/Sa2VA-8B" in text
    here = json.loads(run("models", "info", "nano", "--objects", "3", "--json").stdout)
    assert here["abilities"]["caption_region"]
    assert here["memory_gib"]["float32"]["total"] > here["memory_gib"]["float32"]["weights"]
    assert run("models", "info", "nowhere").exit_code == 1


def test_a_complete_folder_has_no_bad_finding(run, folder):
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
    ("spoil", "point", "message"),
    [
        (_break_key, "keys", "model.safetensors: text_hidden_fcs.0.bias has the shape [3]"),
        (_break_shard, "shards", "model.safetensors is truncated"),
        (_break_tokenizer, "tokenizer", "[SEG]"),
        (_break_config, "config", "llava"),
        (lambda folder: (folder / "model.safetensors").unlink(), "files", "no *.safetensors"),
    ],
)
def test_a_bad_finding_has_a_detail_and_a_remedy(run, folder, spoil, point, message):
    spoil(folder)
    found = _points(run, folder)[point]
    assert not found["ok"]
    assert message in found["detail"]
    assert found["remedy"]


def test_memory_grows_with_objects_and_shrinks_with_the_type():
    config = read_config(NANO_FOLDER)
    one, many = (estimate_memory(config, "float32", Work(objects=count)) for count in (1, 16))
    assert many.sam2 > 4 * one.sam2
    assert many.weights == one.weights == count_weight_bytes(build_empty(config), 4)
    half = estimate_memory(config, "bfloat16", Work())
    assert half.weights == one.weights // 2
    assert half.total < one.total


def test_the_estimate_has_the_right_magnitude():
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
    weights = count_weight_bytes(build_empty(config), 2) / 2**30
    assert weights == pytest.approx(find_published("Sa2VA-4B").weights_gib("bfloat16"), rel=0.015)
    total = estimate_memory(config, "bfloat16", Work()).total / 2**30
    assert weights + 0.5 < total < weights + 4
    free = int(12 * 2**30)
    assert "It fits" in advise_on_memory(config, "bfloat16", Work(), free)
    assert "--dtype bfloat16" in spell(advise_on_memory(config, "float32", Work(), free), SHELL)
    smaller = spell(advise_on_memory(config, "bfloat16", Work(), int(5 * 2**30)), SHELL)
    assert "--quantize nf4" in smaller
    assert "smaller checkpoint" in advise_on_memory(config, "bfloat16", Work(), 2**30, device="cpu")


@pytest.mark.parametrize("one", PUBLISHED_CHECKPOINTS, ids=lambda one: one.name)
def test_published_sizes_match_the_parameter_counts(one):
    values = count_weight_bytes(build_empty(make_published_config(one)), 1) / 1e9
    assert values == pytest.approx(one.parameters, rel=0.015)


def test_info_estimates_memory_before_a_download(run):
    one = json.loads(run("models", "info", "Sa2VA-4B", "--json").stdout)
    many = json.loads(run("models", "info", "Sa2VA-4B", "--objects", "9", "--json").stdout)
    still = json.loads(run("models", "info", "Sa2VA-4B", "--image", "--llm-frames", "1", "--json").stdout)
    assert set(one["memory_gib"]) == {"float32", "bfloat16", "bfloat16, int8", "bfloat16, nf4"}
    assert many["memory_gib"]["bfloat16"]["sam2"] > one["memory_gib"]["bfloat16"]["sam2"]
    assert one["memory_gib"]["bfloat16"]["weights"] == pytest.approx(7.34, abs=0.1)
    assert "an image" in still["memory_for"] and "folder" not in one
    assert "sa2va pull ByteDance/Sa2VA-4B" in run("models", "info", "Sa2VA-4B").stdout


def _edit(folder, name, change):
    path = folder / name
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(content)), encoding="utf-8")


def _reshape(folder, part, shape):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith(part))
    tensors[key] = tensors[key].new_zeros(shape)
    save_file(tensors, path)


def _language(**changed):
    return lambda folder: _edit(
        folder, "config.json", lambda c: c | {"llm_config": c["llm_config"] | changed}
    )


@pytest.mark.parametrize(
    ("spoil", "point", "message"),
    [
        (_language(hidden_size="abc"), "keys", "make no model"),
        (_language(hidden_act="foo"), "keys", "make no model"),
        (_language(vocab_size=3), "tokenizer", "embeddings for 3"),
        (
            lambda f: _edit(f, "tokenizer_config.json", lambda _: []),
            "tokenizer",
            "does not hold a JSON object",
        ),
        (lambda f: _reshape(f, "layers.0.attn.qkv.weight", ()), "keys", "qkv.weight has the shape []"),
        (
            lambda f: _reshape(f, "layers.0.attn.qkv.weight", (287, 96)),
            "keys",
            "the config requires [288, 96]",
        ),
        (lambda f: _reshape(f, "point_embeddings.0.weight", ()), "keys", "point_embeddings.0.weight has the"),
        (
            lambda f: (f / "model.safetensors").rename(f / "model-00001-of-00002.safetensors"),
            "files",
            "model-00002-of-00002.safetensors",
        ),
        (
            lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": 3}}'),
            "files",
            "lists no weight files",
        ),
    ],
)
def test_odd_values_and_shapes_are_findings(run, folder, spoil, point, message):
    spoil(folder)
    found = _points(run, folder)[point]
    assert not found["ok"] and message in found["detail"]


def test_missing_keys_are_named_as_in_the_file(run, folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    lost = [
        key for key in tensors if "sam_prompt_encoder.point_embeddings.2" in key or "attn.qkv.bias" in key
    ]
    save_file({key: value for key, value in tensors.items() if key not in lost}, path)
    detail = _points(run, folder)["keys"]["detail"]
    assert f"{len(lost)} missing" in detail and str(folder) in detail
    assert any(key in detail for key in lost)


@pytest.mark.parametrize("name", ["./missing", "../missing", "a/b--c"])
def test_a_missing_path_is_not_reported_as_a_bug(run, name):
    for words in (("models", "check", name), ("models", "info", name)):
        failed = run(*words)
        assert failed.exit_code == 1
        assert "Unexpected" not in failed.stderr and name in failed.stderr


def test_a_file_in_place_of_a_folder_is_named(run, tmp_path):
    (tmp_path / "model").write_text("", encoding="utf-8")
    assert "is a file" in run("models", "check", "./model").stderr
