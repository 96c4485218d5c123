"""A language model over several GPUs: who gets which layer, and that nothing meets on the wrong side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pretend_gpu import CPU, GPU, PretendGpu, is_there
from pydantic import ValidationError

from sa2va_tools import Settings
from sa2va_tools.errors import OutOfMemoryError, RequestError
from sa2va_tools.model import memory, prompt
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.device import choose_devices
from sa2va_tools.model.families.base import Embedded
from sa2va_tools.model.fitting import build_empty
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.spread import Spread, shares


def test_layers_go_where_there_is_room():
    assert shares([10] * 4, [20, 20], 0) == [0, 0, 1, 1]
    assert shares([10] * 6, [40, 40], 20) == [0, 0, 1, 1, 1, 1]
    assert shares([10] * 6, [10, 90], 20) == [1] * 6
    assert shares([10] * 6, [50, 60, 30], 20) == [0, 0, 1, 1, 1, 2]


def test_only_layers_leave_home():
    spread = Spread(CPU, "mllm.language_model.model.layers", (CPU, GPU))
    assert spread.place_of("mllm.language_model.model.layers.1.mlp.up_proj.weight") == GPU
    for name in ("grounding.no_object_pointer", "text_hidden_fcs.0.weight", "mllm.vision_model.x"):
        assert spread.place_of(name) == CPU
    assert spread.place_of("mllm.language_model.model.layers.0.mlp.up_proj.weight") == CPU


def test_tokens_travel_to_their_layers_and_home():
    """The last layers on a stand-in for a GPU, all else on the CPU: words come out as before."""
    loaded = load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32)
    family = loaded.modules.mllm
    picture = np.full((64, 64, 3), 90, np.uint8)
    text = loaded.chat.text(
        f"{prompt.IMAGE}What is in the image?", family.placeholders(family.look([picture], video=False)), ()
    )
    ids = torch.tensor([loaded.tokenizer.encode(text)])

    def two_steps():
        cache = family.new_cache()
        first = family.step(family.embed(ids, family.look([picture], video=False), ()), cache)
        fed = Embedded(family.token_embeddings(torch.tensor([[5]])))
        return first.next_logits, family.step(fed, cache).next_logits

    with torch.inference_mode():
        before = two_steps()
    layers = family.layers
    with PretendGpu(), torch.no_grad():
        for layer in layers[2:]:
            layer.to(GPU)
        with pytest.raises(RuntimeError, match="both sides"):
            two_steps()
        places = (CPU,) * 2 + (GPU,) * (len(layers) - 2)
        Spread(CPU, "mllm.language_model.model.layers", places).connect(loaded.modules)
        after = two_steps()
        assert not any(is_there(logits) for logits in after)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other)


def test_weights_that_cannot_fit_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**20)
    with pytest.raises(OutOfMemoryError, match="GiB of memory are free") as refused:
        load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32)
    assert "smaller checkpoint" in str(refused.value)
    modules = build_empty(load_config())
    monkeypatch.setattr(memory, "free_bytes", lambda device: memory.weight_bytes(modules, 4))
    load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32)


def load_config():
    from sa2va_tools.model.config import read_config

    return read_config(NANO_FOLDER)


@pytest.mark.parametrize("wish", ["cuda:0,cuda:0", "cpu,cuda:0"])
def test_a_list_is_of_different_gpus(wish):
    with pytest.raises(RequestError):
        choose_devices(wish)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_gpus_that_are_not_there_are_named():
    with pytest.raises(RequestError, match="'cuda:0' is not available"):
        choose_devices("cuda:0,cuda:1")


@pytest.mark.parametrize("wish", ["gpu", "cuda:x", "cuda:0;cuda:1", "cuda:0,cpu"])
def test_settings_know_what_a_device_looks_like(wish):
    with pytest.raises(ValidationError):
        Settings(device=wish)


@pytest.mark.gpu
def test_a_model_over_two_gpus_says_what_it_says_on_one():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    one, two = (
        load_checkpoint(
            NANO_FOLDER, device=torch.device("cuda", 0), dtype=torch.float32, others=others
        ).modules.mllm
        for others in ((), (torch.device("cuda", 1),))
    )
    inputs = torch.randn(1, 9, one.hidden_size, device="cuda:0")
    outputs = [mllm.step(Embedded(inputs), mllm.new_cache()).hidden for mllm in (one, two)]
    torch.testing.assert_close(*outputs)
