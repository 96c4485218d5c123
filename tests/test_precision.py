"""Faster arithmetic: where it is chosen, what it is called, and how little it changes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretend_gpu import GPU, PretendGpu, is_there
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleAttention

from benchmarks.models import grounding_of
from sa2va_server.demo_scene import EXPRESSIONS, write_demo_clip
from sa2va_tools import Engine, Settings
from sa2va_tools.errors import RequestError
from sa2va_tools.model import device as devices
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.device import Pace, choose_encoder_dtype, choose_pace, exact_convolutions
from sa2va_tools.model.feature_stream import pixels_at
from sa2va_tools.model.hiera_attention import HieraAttention
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.memory import fitting_pace
from sa2va_tools.model.pooled_attention import check_window, pooled_attention
from sa2va_tools.model.speed import Speed

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("able", "asked", "device", "small", "chosen"),
    [
        (True, "auto", CPU, False, torch.bfloat16),
        (False, "auto", CPU, False, torch.float32),
        (True, "auto", CPU, True, torch.float32),
        (True, "float32", CPU, False, torch.float32),
        (True, "auto", CUDA, False, torch.float32),
    ],
)
def test_the_encoder_is_halved_where_that_pays(monkeypatch, able, asked, device, small, chosen):
    monkeypatch.setattr(devices, "multiplies_bfloat16", lambda: able)
    assert choose_encoder_dtype("auto", torch.float32, asked, device, small=small) is chosen
    assert choose_encoder_dtype("float16", torch.float32, asked, device, small=small) is torch.float16


def test_pace_by_size_and_device():
    assert choose_pace(CPU, small=False).batch == 1 and choose_pace(CUDA, small=False).batch == 8
    assert choose_pace(CPU, small=True, fast=True).window == 2


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """The demo's clip, and its masks as exact float32 makes them."""
    folder = tmp_path_factory.mktemp("scene")
    clip = write_demo_clip(folder / "clip.mp4", frames=20, size_wh=(256, 192))
    return clip, found(clip, folder / "exact")


def found(clip, store, **wishes):
    with Engine.load(settings=Settings(device="cpu", store_dir=store, **wishes)) as engine:
        return engine.segment(clip, EXPRESSIONS)


@pytest.mark.parametrize(
    ("wishes", "least", "said"),
    [
        ({"encoder_dtype": "bfloat16"}, 0.99, "float32, image encoder bfloat16"),
        ({"attention_dtype": "bfloat16"}, 0.99, "float32, memory attention bfloat16"),
        ({"fast_tracking": True}, 0.9, "float32, memories pooled 2x2"),
    ],
)
def test_masks_hardly_change_and_the_result_says_how_it_was_made(scene, tmp_path, wishes, least, said):
    clip, exact = scene
    ours = found(clip, tmp_path / "store", **wishes)
    assert ours.provenance.dtype == said and exact.provenance.dtype == "float32"
    for one, other in zip(ours.objects, exact.objects, strict=True):
        assert one.found and other.found
        both = either = 0
        for frame in one.track.frame_indices:
            mine, theirs = one.track.mask(frame), other.track.mask(frame)
            both, either = both + np.sum(mine & theirs), either + np.sum(mine | theirs)
        assert both / either >= least


def test_pooled_attention_without_pooling_is_the_exact_one():
    grounding = load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32).modules.grounding
    side, draw = grounding.config.top_side, torch.Generator().manual_seed(0)
    flat = torch.randn(side**2, 2, grounding.config.hidden_dim, generator=draw)
    memory = torch.randn(3 * side**2 + 8, 2, grounding.config.mem_dim, generator=draw)
    places = torch.randn(memory.shape, generator=draw)
    with torch.inference_mode():
        exact = grounding._attended(flat, memory, places, pointer_tokens=8, window=1)
        own = pooled_attention(
            grounding.memory_attention,
            flat,
            grounding._vision_positions(flat.dtype),
            memory,
            places,
            pointer_tokens=8,
            side=side,
            window=1,
        )
    torch.testing.assert_close(own, exact, atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="divide"):
        grounding._attended(flat, memory, places, pointer_tokens=8, window=3)


def test_what_cannot_be_pooled_is_refused_when_it_is_loaded():
    config = load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32).config.grounding
    check_window(config, 2)
    other = config.model_copy(update={"implementation": "sam2"})
    check_window(other, 1)
    with pytest.raises(RequestError, match="Fast tracking"):
        check_window(other, 2)


def test_the_pace_is_what_fits():
    config = load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32).config
    wished = Pace(batch=8, group=16)
    assert fitting_pace(config, wished, 4, None) == fitting_pace(config, wished, 4, 2**40) == wished
    less = fitting_pace(config, wished, 4, 2**24)
    assert 1 <= less.batch < 8 and 1 <= less.group < 16
    assert fitting_pace(config, wished, 4, 0) == Pace(batch=1, group=1)


def test_speed_is_learnt_from_walks_of_different_kinds():
    speed = Speed()
    assert speed.seconds(10, 10) is None
    speed.learn(10, 10, 13.0)
    assert speed.seconds(20, 20) == pytest.approx(26)
    speed.learn(0, 10, 2.0)
    speed.learn(10, 30, 17.0)
    assert speed.seconds(10, 10) == pytest.approx(13, rel=0.1)
    assert speed.seconds(0, 100) == pytest.approx(20, rel=0.2)


def test_the_encoder_without_idle_work_is_the_same_encoder():
    grounding = grounding_of("nano", torch.device("cpu"), torch.float32)
    ours = [each for each in grounding.vision_encoder.modules() if isinstance(each, HieraAttention)]
    pixels = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    made = grounding.encode(pixels)
    for module in ours:
        module.__class__ = Sam2MultiScaleAttention
    theirs = grounding.encode(pixels)
    assert len(ours) > 2 and any(module.query_stride for module in ours)
    assert torch.equal(made.top, theirs.top) and torch.equal(made.skips[0][0], theirs.skips[0][0])


def test_position_encodings_are_rounded_once_whatever_the_modules_are():
    exact, half = (grounding_of("nano", CPU, dtype) for dtype in (torch.float32, torch.bfloat16))
    points, labels = torch.tensor([[[3.0, 250.0], [128.5, 7.25]]]), torch.tensor([[1, 0]])
    for of in (
        lambda grounding: grounding._image_positions(),
        lambda grounding: grounding._vision_positions(grounding.no_object_pointer.dtype),
        lambda grounding: grounding._memory_positions(grounding.no_object_pointer.dtype),
        lambda grounding: grounding.point_prompt(points, labels, multimask=True).sparse,
    ):
        assert of(half).dtype == torch.bfloat16
        torch.testing.assert_close(of(half).float(), of(exact), atol=8e-3, rtol=8e-3)


def test_pixels_are_the_same_wherever_they_are_normalised():
    squares = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in (0, 1)]
    for dtype in (torch.float32, torch.bfloat16):
        here = pixels_at(torch.zeros(1, dtype=dtype), squares)
        with PretendGpu():
            there = pixels_at(torch.zeros(1, dtype=dtype).to(GPU), squares)
            assert is_there(there)
        assert here.dtype == there.dtype == dtype and torch.equal(here, there)


@pytest.mark.parametrize(("dtype", "exact"), [(torch.float32, True), (torch.bfloat16, False)])
def test_convolutions_are_exact_on_cuda_where_all_else_is(dtype, exact):
    before = torch.backends.cudnn.allow_tf32
    with exact_convolutions(torch.zeros(1, dtype=dtype)):
        assert torch.backends.cudnn.allow_tf32 == before
    home = SimpleNamespace(device=torch.device("cuda"), dtype=dtype)
    with exact_convolutions(home):
        assert (torch.backends.cudnn.conv.fp32_precision == "ieee") == exact
    assert torch.backends.cudnn.allow_tf32 == before


def test_an_estimate_knows_that_large_pictures_take_longer():
    speed = Speed()
    speed.learn(24, 24, 2.0, megapixels=0.1)
    small, large = (speed.seconds(1, 12, megapixels=size) for size in (0.1, 48))
    assert small < 1 and 5 < large < 60
    speed.learn(1, 12, 6.5, megapixels=48)
    assert speed.seconds(1, 12, megapixels=48) == pytest.approx(6.5, rel=0.3)
    assert speed.seconds(24, 24, megapixels=0.1) == pytest.approx(2.0, rel=0.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::DeprecationWarning")  # torch's compiler imports what torch deprecates
def test_a_compiled_encoder_gives_the_same_masks_and_tells_of_its_warm_up(scene, tmp_path):
    from torch._dynamo.utils import counters

    clip, exact = scene
    heard, compiled = [], {}

    def hear(progress):
        heard.append(progress)
        compiled.setdefault(progress.stage, counters["stats"]["unique_graphs"])

    settings = Settings(device="cpu", store_dir=tmp_path, compile_encoder=True)
    with Engine.load(settings=settings) as engine:
        ours = engine.segment(clip, EXPRESSIONS, on_progress=hear)
    assert any("compiling" in report.message for report in heard)
    assert compiled["load"] < compiled["look"] == counters["stats"]["unique_graphs"], "only while it loads"
    for one, other in zip(ours.objects, exact.objects, strict=True):
        for frame in one.track.frame_indices:
            assert np.mean(one.track.mask(frame) != other.track.mask(frame)) < 0.001


def test_what_is_free_on_a_cpu_is_what_the_system_and_the_container_would_give(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(devices, "_CGROUP", tmp_path)
    assert devices.free_bytes(CPU) is None, "another system"
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable: 500 kB\nSwapFree: 100 kB\n")
    assert devices.free_bytes(CPU) == 600 * 1024, "no container"
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("350000\n")
    (tmp_path / "memory.stat").write_text("anon 200000\ninactive_file 60000\nactive_file 40000\n")
    assert devices.free_bytes(CPU) == 600 * 1024, "a container without a limit"
    (tmp_path / "memory.max").write_text("400000\n")
    assert devices.free_bytes(CPU) == 400_000 - 350_000 + 100_000
