"""The language model's layers in 8 or 4 bits: what is touched, what is not, and what it costs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from sa2va_tools import Engine, Settings
from sa2va_tools.errors import MissingExtraError, RequestError
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.fitting import build_empty
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.memory import weight_bytes
from sa2va_tools.model.quantised import quantise

pytest.importorskip("bitsandbytes", reason="needs the extra [quantize]")
CPU = torch.device("cpu")
STORED = {"int8": torch.int8, "nf4": torch.uint8}


def load(**wishes):
    return load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32, **wishes).modules


@pytest.mark.parametrize("how", ["int8", "nf4"])
def test_the_layers_of_the_language_model_alone_are_packed(how):
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
def test_a_packed_layer_gives_nearly_the_same(how, loss):
    torch.manual_seed(0)
    inputs = torch.randn(7, 128)
    for one, other in zip(load().mllm.layers, load(quantize=how).mllm.layers, strict=True):
        wanted, given = one.mlp.up_proj(inputs), other.mlp.up_proj(inputs)
        assert 0 < (wanted - given).norm() < loss * wanted.norm()


@pytest.mark.parametrize("how", ["int8", "nf4"])
def test_a_packed_model_still_finds_things(how, clip, tmp_path):
    settings = Settings(device="cpu", quantize=how, store_dir=tmp_path / "store")
    with Engine.load(settings=settings) as engine:
        result = engine.segment(clip, ["the red square"])
    assert result.objects[0].found
    assert result.provenance.dtype == f"float32, layers {how}"


def test_what_packing_saves_is_told_beforehand():
    modules = build_empty(load().config)
    sizes = [weight_bytes(modules, 2, how) for how in (None, "int8", "nf4")]
    packed = sum(each.weight.numel() for each in modules.mllm.layers.modules() if isinstance(each, nn.Linear))
    assert sizes[0] - sizes[1] == packed and sizes[1] - sizes[2] == pytest.approx(packed * 3.5 / 8, abs=1)


def test_a_device_that_cannot_unpack_is_refused():
    with pytest.raises(RequestError, match="mps"):
        quantise(build_empty(load().config).mllm.layers, "int8", torch.float16, torch.device("mps"))


def test_without_the_library_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"sa2va-tools\[quantize\]"):
        load(quantize="int8")


def test_the_command_line_takes_it(run, tmp_path):
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.full((64, 64, 3), 200, np.uint8))
    seen = {}

    def opener(settings):
        from sa2va_tools.testing import FakeEngine

        seen["quantize"] = settings.quantize
        return FakeEngine(settings.store_dir)

    assert run("describe", picture, "--quantize", "nf4", opener=opener).exit_code == 0
    assert seen["quantize"] == "nf4"
