"""The language model's layers in 8 or 4 bits: what is packed, what is not, and how exact it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sa2va_tools import load_engine
from sa2va_tools.errors import MissingExtraError, RequestError
from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.checkpoints.memory_estimate import count_weight_bytes
from sa2va_tools.model.checkpoints.quantization import quantize_layers
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.sa2va import build_empty
from sa2va_tools.run import Run

pytest.importorskip("bitsandbytes", reason="needs the extra [quantize]")
CPU = torch.device("cpu")
STORED = {"int8": torch.int8, "nf4": torch.uint8}


def load(**options):
    return load_checkpoint(NANO_FOLDER, devices=(CPU,), dtype=torch.float32, run=Run(), **options).modules


@pytest.mark.parametrize("how", ["int8", "nf4"])
def test_only_layers_of_the_language_model_are_packed(how):
    whole, packed = load(), load(quantize=how)
    layers = "mllm.language_model.model.layers."
    before = dict(whole.named_parameters())
    linear = {
        f"{name}.weight"
        for name, module in whole.named_modules()
        if name.startswith(layers) and isinstance(module, nn.Linear)
    }
    assert linear
    for name, parameter in packed.named_parameters():
        if name in linear:
            assert parameter.dtype == STORED[how]
        else:
            assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize(("how", "loss"), [("int8", 0.02), ("nf4", 0.12)])
def test_a_packed_layer_computes_nearly_the_same(how, loss):
    torch.manual_seed(0)
    inputs = torch.randn(7, 128)
    for one, other in zip(load().mllm.layers, load(quantize=how).mllm.layers, strict=True):
        wanted, given = one.mlp.up_proj(inputs), other.mlp.up_proj(inputs)
        assert 0 < (wanted - given).norm() < loss * wanted.norm()


@pytest.mark.parametrize("how", ["int8", "nf4"])
def test_a_packed_model_still_finds_things(how, clip, tmp_path):
    with load_engine("nano", device="cpu", quantize=how, store_dir=tmp_path / "store") as engine:
        result = engine.segment(clip, ["the red square"])
    assert result.objects[0].found
    assert result.provenance.dtype == f"float32, layers {how}"


def test_the_saving_is_known_before_loading():
    modules = build_empty(load().config)
    sizes = [count_weight_bytes(modules, 2, how) for how in (None, "int8", "nf4")]
    packed = sum(each.weight.numel() for each in modules.mllm.layers.modules() if isinstance(each, nn.Linear))
    assert sizes[0] - sizes[1] == packed and sizes[1] - sizes[2] == pytest.approx(packed * 3.5 / 8, abs=1)


def test_mps_is_refused():
    with pytest.raises(RequestError, match="mps"):
        quantize_layers(build_empty(load().config).mllm.layers, "int8", torch.float16, torch.device("mps"))


def test_without_bitsandbytes_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"sa2va-tools\[quantize\]"):
        load(quantize="int8")
