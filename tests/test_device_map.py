"""A language model over several GPUs: where its layers go, and that it computes the same there."""

from __future__ import annotations

import pytest
import torch
from pretend_gpu import CPU, GPU, PretendGpu, is_there
from tiny_families import encode_noise, placeholder_ids, tiny_family
from torch import nn

from sa2va_tools import Settings
from sa2va_tools.errors import OutOfMemoryError, RequestError
from sa2va_tools.model.checkpoints import device_map, memory_estimate
from sa2va_tools.model.checkpoints.config_file import read_config
from sa2va_tools.model.checkpoints.device_map import DeviceMap
from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.device.placement import choose_devices
from sa2va_tools.model.families.base import LanguageInputs
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.sa2va import build_empty
from sa2va_tools.run import Run

META = torch.device("meta")
"""Stands in for a second GPU while weights are loaded: a tensor that was sent there says so."""
LAYERS = "mllm.language_model.model.layers"
GIB = 2**30


def _load(*devices, **options):
    return load_checkpoint(NANO_FOLDER, devices=devices, dtype=torch.float32, run=Run(), **options)


def _set_free_memory(monkeypatch, **gib):
    """`cpu`, `meta`, `cuda0`, … are what is free there, in GiB, beyond 2 GiB for work on the first."""
    monkeypatch.setattr(
        device_map, "free_bytes", lambda device: int(gib[str(device).replace(":", "")] * GIB) if gib else None
    )


@pytest.mark.parametrize(
    ("free_gib", "layers"),
    [((12, 10), (2, 2)), ((10, 24), (1, 3)), ((1, 10), (0, 4)), ((42, 1), (4, 0)), ((10, 8, 16), (1, 1, 2))],
)
def test_layers_follow_free_memory(monkeypatch, free_gib, layers):
    """2 GiB of the first device are for work, and the nano's other parts take next to nothing."""
    devices = [torch.device("cuda", number) for number in range(len(free_gib))]
    _set_free_memory(monkeypatch, **{f"cuda{number}": free for number, free in enumerate(free_gib)})
    plan = DeviceMap.plan(build_empty(read_config(NANO_FOLDER)), devices, torch.bfloat16)
    assert tuple(plan.layer_devices.count(device) for device in devices) == layers
    assert list(plan.layer_devices) == sorted(plan.layer_devices, key=devices.index)


def test_the_first_device_is_the_first_that_was_named(monkeypatch):
    devices = (torch.device("cuda", 3), torch.device("cuda", 1))
    _set_free_memory(monkeypatch, cuda3=12, cuda1=10)
    plan = DeviceMap.plan(build_empty(read_config(NANO_FOLDER)), devices, torch.bfloat16)
    assert plan.main == plan.layer_devices[0] == devices[0]
    assert plan.layer_devices[-1] == devices[1]


def test_only_layers_leave_the_first_device():
    plan = DeviceMap(CPU, LAYERS, (CPU, GPU))
    assert plan.find_device(f"{LAYERS}.1.mlp.up_proj.weight") == GPU
    others = ("sam2.no_object_pointer", "text_hidden_fcs.0.weight", "mllm.language_model.lm_head.weight")
    for name in (*others, f"{LAYERS}.0.mlp.up_proj.weight"):
        assert plan.find_device(name) == CPU


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_weights_are_loaded_straight_onto_their_device(monkeypatch, quantize):
    if quantize is not None:
        pytest.importorskip("bitsandbytes", reason="needs the extra [quantize]")
    _set_free_memory(monkeypatch, cpu=12, meta=10)
    expected = _load(CPU, quantize=quantize).modules
    modules = _load(CPU, META, quantize=quantize).modules
    plan = DeviceMap.plan(build_empty(read_config(NANO_FOLDER)), (CPU, META), torch.float32)
    found = {name: parameter.device for name, parameter in modules.named_parameters()}
    assert found == {name: plan.find_device(name) for name in found}
    assert {name for name in found if found[name] == META} == {
        name for name in found if name.startswith((f"{LAYERS}.2.", f"{LAYERS}.3."))
    }
    for name, parameter in expected.named_parameters():
        if found[name] == CPU:
            assert torch.equal(modules.get_parameter(name), parameter), name


@pytest.mark.parametrize("name", ["qwen2", "internlm2", "qwen2_5_vl", "qwen3_vl"])
def test_hidden_states_travel_to_their_layers_and_back(name):
    """The last layers on a stand-in for a GPU, the rest on the CPU: the logits stay the same."""
    modules = nn.Module()
    modules.mllm = family = tiny_family(name)
    features = encode_noise(family)
    token_ids = torch.tensor([[1, 2, *placeholder_ids(features), 5]])

    def two_steps():
        cache = family.new_cache()
        first = family.step(family.embed(token_ids, features, ()), cache)
        later = LanguageInputs(family.embed_tokens(torch.tensor([[5]])))
        return first.next_logits, family.step(later, cache).next_logits

    with torch.inference_mode():
        before = two_steps()
    layers_name = next(name for name, module in modules.named_modules() if module is family.layers)
    with PretendGpu(), torch.no_grad():
        for layer in family.layers[1:]:
            layer.to(GPU)
        with pytest.raises(RuntimeError, match="both sides"):
            two_steps()
        DeviceMap(CPU, layers_name, (CPU, GPU, GPU)).connect(modules)
        after = two_steps()
        assert not any(is_there(logits) for logits in after)
    torch.testing.assert_close(before, after)


def test_weights_that_cannot_fit_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(memory_estimate, "free_bytes", lambda device: 2**20)
    with pytest.raises(OutOfMemoryError, match="GiB of memory is free") as refused:
        _load(CPU)
    assert "smaller checkpoint" in str(refused.value)
    modules = build_empty(read_config(NANO_FOLDER))
    enough = memory_estimate.count_weight_bytes(modules, 4)
    monkeypatch.setattr(memory_estimate, "free_bytes", lambda device: enough)
    _load(CPU)


@pytest.mark.parametrize("wanted", ["cuda:0,cuda:0", "cpu,cuda:0"])
def test_several_devices_are_different_gpus(wanted):
    with pytest.raises(RequestError):
        choose_devices(wanted)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_gpu_is_named():
    with pytest.raises(RequestError, match="'cuda:0' is not available"):
        choose_devices("cuda:0,cuda:1")


@pytest.mark.parametrize("wanted", ["gpu", "cuda:x", "cuda:0;cuda:1", "cuda:0,cpu"])
def test_settings_refuse_what_is_no_device(wanted):
    with pytest.raises(RequestError, match="device"):
        Settings(device=wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("quantize", [None, "int8", "nf4"])
def test_a_language_model_over_two_devices_answers_as_on_one(monkeypatch, quantize):
    """Needs one GPU: half of the layers run on the CPU, with embeddings and head."""
    if quantize is not None:
        pytest.importorskip("bitsandbytes", reason="needs the extra [quantize]")
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(device_map, "free_bytes", lambda device: 12 * GIB if device == CPU else 10 * GIB)
    outputs = []
    for devices in ((CPU,), (CPU, cuda)):
        family = _load(*devices, quantize=quantize).modules.mllm
        inputs = torch.randn(1, 9, family.hidden_size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            outputs.append(family.step(LanguageInputs(inputs), family.new_cache()).hidden_states)
    assert next(family.layers[-1].parameters()).device == cuda
    torch.testing.assert_close(*outputs, atol=1e-4 if quantize is None else 0.1, rtol=1e-3)
