"""Cancelling is heard in the middle of a pass, and what was begun is let go."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
from tiny_families import FAMILIES, look_at_noise, tiny_family

from sa2va_tools.engine import model_host
from sa2va_tools.errors import CancelledError
from sa2va_tools.model import interrupts
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.prompt import IMAGE
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.progress import CancelToken

PICTURE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def runtime():
    return Sa2vaRuntime.load(NANO_FOLDER, device="cpu")


class Stopped:
    """A clip of one frame."""

    def __len__(self):
        return 1

    def key_of(self, position):
        return None

    def frames(self, positions):
        yield PICTURE


def look(runtime):
    runtime.look([PICTURE], video=False)


def answer(runtime):
    runtime.answer(f"{IMAGE}Describe the image.", runtime.look([PICTURE], video=False))


def follow(runtime):
    list(runtime.masks_from_words(Stopped(), np.zeros((1, 128), np.float32)))


@pytest.mark.parametrize(
    ("work", "stage"),
    [
        (look, "mllm.vision_model"),
        (answer, "mllm.language_model"),
        (follow, "grounding.vision_encoder"),
        (follow, "grounding.mask_decoder"),
    ],
)
def test_a_cancel_is_heard_between_two_layers(runtime, work, stage):
    token, tensors, passed = CancelToken(), [], []
    part = runtime._modules.get_submodule(stage)
    layers = next(each for each in part.modules() if isinstance(each, torch.nn.ModuleList))

    def cancel_in_the_first_layer(module, inputs, output):
        passed.append(module)
        first = output[0] if isinstance(output, tuple) else output
        tensors.append(weakref.ref(first))
        token.cancel()

    handles = [layer.register_forward_hook(cancel_in_the_first_layer) for layer in layers]
    try:
        with pytest.raises(CancelledError), runtime.at_work(token):
            work(runtime)
    finally:
        for handle in handles:
            handle.remove()
    assert len(passed) == 1, "the layer after the cancel was not to run"
    gc.collect()
    assert tensors[0]() is None, "what was computed is to be let go"
    with runtime.at_work():
        work(runtime)


def attention_of_a_frame(grounding):
    """(inputs of memory attention) → what a frame makes of two objects' memories."""
    dice = torch.Generator().manual_seed(0)
    side, width = grounding.config.top_side, grounding.config.hidden_dim
    features = grounding.encode(torch.rand(1, 3, *(2 * [grounding.config.image_size]), generator=dice))
    memories = [(slot, torch.randn(side**2, 2, 64, generator=dice)) for slot in (0, 1, 2)]
    return grounding.attend(features, memories, [torch.randn(2, width, generator=dice)])


@torch.inference_mode()
def test_attention_in_pieces_is_the_same_attention(monkeypatch):
    grounding = load_checkpoint(
        NANO_FOLDER, device=torch.device("cpu"), dtype=torch.float32
    ).modules.grounding
    whole, pauses = attention_of_a_frame(grounding), []
    modules = [each for each in grounding.memory_attention.modules() if hasattr(each, "rope_k_repeat")]
    for module in modules:
        interrupts.attend_in_pieces(module, lambda: pauses.append(1))
    assert torch.equal(attention_of_a_frame(grounding), whole) and len(pauses) == len(modules)
    monkeypatch.setattr(interrupts, "_PIECE", 0)
    monkeypatch.setattr(interrupts, "_LEAST_QUERIES", 64)
    torch.testing.assert_close(attention_of_a_frame(grounding), whole, rtol=1e-5, atol=1e-5)
    assert len(pauses) == len(modules) * (1 + 2 * grounding.config.top_side**2 // 64)  # two objects


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_large_pictures_are_looked_at_in_pieces(name, monkeypatch):
    family = tiny_family(name)
    whole, token = look_at_noise(family).tokens, CancelToken()
    watching = interrupts.Interrupts()
    watching.watch(family, closely=True)
    assert torch.equal(look_at_noise(family).tokens, whole)
    monkeypatch.setattr(interrupts, "_PIECE", 0)
    monkeypatch.setattr(interrupts, "_LEAST_QUERIES", 5)
    torch.testing.assert_close(look_at_noise(family).tokens, whole, rtol=1e-4, atol=1e-4)
    pieces = []
    kernel = interrupts.sdpa_attention_forward

    def cancel_after_the_first(*given, **named):
        pieces.append(1)
        token.cancel()
        return kernel(*given, **named)

    monkeypatch.setattr(interrupts, "sdpa_attention_forward", cancel_after_the_first)
    with pytest.raises(CancelledError), watching.heard_by(token):
        look_at_noise(family)
    assert len(pieces) == 1


def test_where_a_layer_takes_seconds_a_cancel_is_heard_inside_of_it():
    loaded = load_checkpoint(NANO_FOLDER, device=torch.device("cpu"), dtype=torch.float32)
    slow, token, ran = Sa2vaRuntime(loaded, "nano", slow=True), CancelToken(), []
    layer = slow._modules.mllm.vision_model.encoder.layer[0]
    leaves = [each for each in layer.modules() if isinstance(each, torch.nn.Linear)]

    def cancel_in_the_first(module, inputs, output):
        ran.append(module)
        token.cancel()

    for leaf in leaves:
        leaf.register_forward_hook(cancel_in_the_first)
    with pytest.raises(CancelledError), slow.at_work(token):
        look(slow)
    assert len(ran) == 1 < len(leaves)


def test_a_cancel_is_heard_while_libraries_are_imported(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(1.5)\nSa2vaRuntime = 1\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(model_host, "_RUNTIME", "slow_to_import")
    token = CancelToken()
    threading.Timer(0.1, token.cancel).start()
    with pytest.raises(CancelledError):
        model_host._import_runtime(token)
    assert any(thread.name == "import" for thread in threading.enumerate()), "it goes on"
    model_host._import_runtime(None)
    assert sys.modules["slow_to_import"].Sa2vaRuntime == 1


def test_what_an_import_raises_is_raised_to_the_caller(tmp_path, monkeypatch):
    (tmp_path / "without_torch.py").write_text("import torch_that_is_not_there\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(model_host, "_RUNTIME", "without_torch")
    with pytest.raises(ModuleNotFoundError, match="torch_that_is_not_there"):
        model_host._import_runtime(None)
