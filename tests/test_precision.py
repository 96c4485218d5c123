"""Number formats and batch sizes: what is chosen where, and that faster arithmetic hardly changes a mask."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretend_gpu import GPU, PretendGpu, is_there
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleAttention

from sa2va_tools import load_engine
from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.device import placement
from sa2va_tools.model.device.placement import (
    Precision,
    choose_batch_sizes,
    choose_precision,
    choose_threads,
    exact_convolutions,
)
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.sam2.hiera_attention import HieraAttention
from sa2va_tools.model.tracking.frame_features import pixels_to_device
from sa2va_tools.run import Run
from sa2va_tools.testing import synthetic_clip

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
EXPRESSIONS = ["the red square"]
FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16


def _nano_sam2(dtype):
    return load_checkpoint(NANO_FOLDER, devices=(CPU,), dtype=dtype, run=Run()).modules.sam2


@pytest.mark.parametrize(
    ("wanted", "device", "small", "has_bfloat16", "modules", "sam2"),
    [
        ("auto", CUDA, False, True, BFLOAT16, BFLOAT16),
        ("auto", CUDA, True, True, FLOAT32, FLOAT32),
        ("auto", CPU, False, True, FLOAT32, BFLOAT16),
        ("auto", CPU, False, False, FLOAT32, FLOAT32),
        ("auto", CPU, True, True, FLOAT32, FLOAT32),
        ("auto", torch.device("mps"), False, True, FLOAT32, FLOAT32),
        ("float32", CPU, False, True, FLOAT32, FLOAT32),
        ("float16", CUDA, False, True, FLOAT16, FLOAT16),
    ],
)
def test_the_precision_of_each_part(monkeypatch, wanted, device, small, has_bfloat16, modules, sam2):
    monkeypatch.setattr(placement, "multiplies_bfloat16", lambda: has_bfloat16)
    assert choose_precision(wanted, device, small=small) == Precision(modules, sam2, sam2)


def test_batches_are_large_where_one_frame_leaves_the_device_idle():
    large_on_cpu = choose_batch_sizes(CPU, small=False)
    assert (large_on_cpu.frames, large_on_cpu.objects) == (1, 1)
    for device, small in ((CUDA, False), (CUDA, True), (CPU, True)):
        sizes = choose_batch_sizes(device, small=small)
        assert sizes.frames > 1 and sizes.objects > 1


def test_small_models_use_one_cpu_thread():
    assert choose_threads(CPU, small=True) == 1
    assert choose_threads(CPU, small=False) is choose_threads(CUDA, small=True) is None


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A clip, and its masks as exact float32 makes them."""
    folder = tmp_path_factory.mktemp("scene")
    clip = synthetic_clip(folder / "clip.mp4", size_wh=(256, 192))
    return clip, _segment(clip, folder / "exact")


def _segment(clip, store, **settings):
    with load_engine("nano", device="cpu", store_dir=store, **settings) as engine:
        return engine.segment(clip, EXPRESSIONS)


def _lowest_iou(result, other):
    found = []
    for one, two in zip(result.objects, other.objects, strict=True):
        assert one.found and two.found
        frames = one.track.frame_indices
        masks, others = (np.stack([each.track.mask(index) for index in frames]) for each in (one, two))
        found.append(np.sum(masks & others) / np.sum(masks | others))
    return min(found)


def test_bfloat16_in_sam2_hardly_changes_masks_and_is_named(scene, tmp_path, monkeypatch):
    """As chosen for a large checkpoint on a CPU that multiplies bfloat16."""
    clip, exact = scene
    fast = Precision(FLOAT32, BFLOAT16, BFLOAT16)
    monkeypatch.setattr("sa2va_tools.model.device.placement.choose_precision", lambda *_, **__: fast)
    result = _segment(clip, tmp_path / "store")
    assert exact.provenance.dtype == "float32"
    assert result.provenance.dtype == "float32, image encoder bfloat16, memory attention bfloat16"
    assert 0.98 < _lowest_iou(result, exact) < 1


def test_attention_without_unused_work_gives_the_same_features():
    sam2 = _nano_sam2(FLOAT32)
    ours = [each for each in sam2.vision_encoder.modules() if isinstance(each, HieraAttention)]
    pixels = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    features = sam2.encode(pixels)
    for module in ours:
        module.__class__ = Sam2MultiScaleAttention
    expected = sam2.encode(pixels)
    assert len(ours) > 2 and any(module.query_stride for module in ours)
    assert torch.equal(features.top, expected.top)
    assert torch.equal(features.skips[0][0], expected.skips[0][0])


def test_position_encodings_are_rounded_once():
    exact, half = _nano_sam2(FLOAT32), _nano_sam2(BFLOAT16)
    points, labels = torch.tensor([[[3.0, 250.0], [128.5, 7.25]]]), torch.tensor([[1, 0]])
    for compute in (
        lambda sam2: sam2._image_positions(),
        lambda sam2: sam2._positions("vision", sam2.no_object_pointer.dtype),
        lambda sam2: sam2._positions("memory", sam2.no_object_pointer.dtype),
        lambda sam2: sam2.point_prompt(points, labels, multimask=True).sparse,
    ):
        assert compute(half).dtype == torch.bfloat16
        torch.testing.assert_close(compute(half).float(), compute(exact), atol=8e-3, rtol=8e-3)


def test_pixels_are_the_same_on_every_device():
    squares = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in (0, 1)]
    for dtype in (FLOAT32, BFLOAT16):
        here = pixels_to_device(squares, torch.zeros(1, dtype=dtype))
        with PretendGpu():
            there = pixels_to_device(squares, torch.zeros(1, dtype=dtype).to(GPU))
            assert is_there(there)
        assert here.dtype == there.dtype == dtype and torch.equal(here, there)


@pytest.mark.parametrize(("dtype", "exact"), [(FLOAT32, True), (BFLOAT16, False)])
def test_float32_convolutions_on_cuda_are_exact(dtype, exact):
    before = torch.backends.cudnn.allow_tf32
    with exact_convolutions(torch.zeros(1, dtype=dtype)):
        assert torch.backends.cudnn.allow_tf32 == before
    on_cuda = SimpleNamespace(device=CUDA, dtype=dtype)
    with exact_convolutions(torch.zeros(1), on_cuda):
        assert (torch.backends.cudnn.conv.fp32_precision == "ieee") == exact
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.slow
@pytest.mark.filterwarnings("default::DeprecationWarning")  # torch's compiler imports what torch deprecates
def test_a_compiled_encoder_gives_the_same_masks_and_compiles_only_while_it_loads(scene, tmp_path):
    from torch._dynamo.utils import counters

    clip, exact = scene
    graphs = {}

    def count_graphs(progress):
        graphs.setdefault(progress.stage, counters["stats"]["unique_graphs"])

    with load_engine("nano", device="cpu", store_dir=tmp_path, compile=True) as engine:
        result = engine.segment(clip, EXPRESSIONS, run=Run(count_graphs))
    assert graphs["load"] < graphs["look"] == counters["stats"]["unique_graphs"]
    assert "image encoder compiled" in result.provenance.dtype
    assert _lowest_iou(result, exact) > 0.999


def test_free_host_memory_respects_the_system_and_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(placement, "_CGROUP", tmp_path)
    assert placement.free_bytes(CPU) is None, "another system"
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable: 500 kB\nSwapFree: 100 kB\n")
    assert placement.free_bytes(CPU) == 600 * 1024, "no container"
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("350000\n")
    (tmp_path / "memory.stat").write_text("anon 200000\ninactive_file 60000\nactive_file 40000\n")
    assert placement.free_bytes(CPU) == 600 * 1024, "a container without a limit"
    (tmp_path / "memory.max").write_text("400000\n")
    assert placement.free_bytes(CPU) == 400_000 - 350_000 + 100_000
