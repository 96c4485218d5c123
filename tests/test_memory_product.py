"""Memory attention in tiles: the library's result, in any number format, cancelled between rows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention

from benchmarks.models import grounding_of
from sa2va_tools.errors import CancelledError, RequestError
from sa2va_tools.model import device as devices
from sa2va_tools.model import memory_product
from sa2va_tools.model.device import choose_attention_dtype, cpu_threads
from sa2va_tools.model.memory_product import (
    MemoryCrossAttention,
    attention_in_tiles,
    multiply_memories_in,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MEMORIES, POINTER_TOKENS = 3, 8


@pytest.fixture
def grounding(monkeypatch):
    """The nano's, whose products are taken for large, and in more than one tile each way."""
    monkeypatch.setattr(memory_product, "_LARGE", 1)
    monkeypatch.setattr(memory_product, "_ROWS", 48)
    monkeypatch.setattr(memory_product, "_COLUMNS", 100)
    return grounding_of("nano", CPU, torch.float32)


def attended(grounding, *, window=1, objects=2):
    """Memory attention of random features, the same in each call."""
    side, draw = grounding.config.top_side, torch.Generator().manual_seed(0)
    flat = torch.randn(side**2, objects, grounding.config.hidden_dim, generator=draw)
    tokens = MEMORIES * side**2 + POINTER_TOKENS
    memory = torch.randn(tokens, objects, grounding.config.mem_dim, generator=draw)
    places = torch.randn(memory.shape, generator=draw)
    dtype = grounding.no_object_pointer.dtype
    given = (each.to(dtype) for each in (flat, memory, places))
    with torch.inference_mode():
        return grounding._attended(*given, pointer_tokens=POINTER_TOKENS, window=window).float()


def of_the_library(grounding):
    theirs = copy.deepcopy(grounding)
    for layer in theirs.memory_attention.layers:
        assert type(layer.cross_attn_image) is MemoryCrossAttention
        layer.cross_attn_image.__class__ = Sam2VideoRoPEAttention
    return theirs


def error(one, other):
    return float((one - other).abs().max() / other.std())


@pytest.mark.parametrize("window", [1, 2])
def test_tiles_give_what_the_library_gives(grounding, window):
    exact = attended(of_the_library(grounding), window=window)
    assert error(attended(grounding, window=window), exact) < 1e-5
    multiply_memories_in(torch.bfloat16, grounding)
    assert 1e-5 < error(attended(grounding, window=window), exact) < 0.05


def test_the_format_of_products_changes_less_than_that_of_all_modules(grounding):
    exact = attended(of_the_library(grounding))
    halved = copy.deepcopy(grounding).to(torch.bfloat16)
    multiply_memories_in(torch.bfloat16, grounding)
    assert error(attended(grounding), exact) < error(attended(halved), exact) < 0.2


def test_small_products_are_left_to_the_library(monkeypatch):
    grounding = grounding_of("nano", CPU, torch.float32)
    monkeypatch.setattr(memory_product, "attention_in_tiles", None)  # would fail if it were called
    assert torch.equal(attended(grounding), attended(of_the_library(grounding)))
    multiply_memories_in(torch.float32, grounding)
    assert torch.equal(attended(grounding), attended(of_the_library(grounding)))


def test_objects_together_are_the_objects_alone_whatever_the_threads(grounding):
    together = attended(grounding)
    side = grounding.config.top_side**2
    with cpu_threads(2):
        assert error(attended(grounding), together) < 1e-5
    assert together.shape == (2, side, grounding.config.hidden_dim)


def test_in_training_nothing_changes(grounding):
    module = grounding.memory_attention.layers[0].cross_attn_image
    large = torch.zeros(1, 4096, 256)
    assert module.takes_tiles(large, large)
    grounding.train()
    assert not module.takes_tiles(large, large)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_scores_and_far_keys_do_no_harm(dtype):
    draw = torch.Generator().manual_seed(1)
    query, key = (torch.randn(count, 32, generator=draw) for count in (700, 3000))
    value, weight = torch.randn(3000, 8, generator=draw), torch.linspace(-50, 50, 3000)
    query, key, value = (40 * query).to(dtype), key.to(dtype), value.to(dtype)
    made = attention_in_tiles(query, key, value, weight=weight.to(dtype))
    scores = (query @ key.T + weight.to(dtype)).double()
    expected = torch.softmax(scores, -1) @ value.double()
    assert made.dtype == torch.float32 and bool(made.isfinite().all())
    assert float((made - expected).abs().mean()) < (1e-5 if dtype == torch.float32 else 0.02)
    plain = F.scaled_dot_product_attention(
        query[None].float(), key[None].float(), value[None].float(), scale=1
    )
    assert float((attention_in_tiles(query, key, value) - plain[0]).abs().mean()) < 0.1


def test_a_cancel_is_heard_between_rows(grounding):
    heard = []

    def check():
        heard.append(1)
        if len(heard) == 3:
            raise CancelledError("enough")

    for layer in grounding.memory_attention.layers:
        layer.cross_attn_image.between_pieces = check
    with pytest.raises(CancelledError):
        attended(grounding)
    assert len(heard) == 3


@pytest.mark.parametrize(
    ("able", "asked", "device", "small", "ours", "chosen"),
    [
        (True, "auto", CPU, False, True, torch.bfloat16),
        (False, "auto", CPU, False, True, torch.float32),
        (True, "auto", CPU, True, True, torch.float32),
        (True, "float32", CPU, False, True, torch.float32),
        (True, "auto", CPU, False, False, torch.float32),
        (True, "auto", CUDA, False, True, torch.float32),
    ],
)
def test_products_are_halved_where_that_pays(monkeypatch, able, asked, device, small, ours, chosen):
    monkeypatch.setattr(devices, "multiplies_bfloat16", lambda: able)
    how = {"small": small, "ours": ours}
    assert choose_attention_dtype("auto", torch.float32, asked, device, **how) is chosen
    if ours and device is CPU:
        assert choose_attention_dtype("float32", torch.bfloat16, asked, device, **how) is torch.float32
    else:
        with pytest.raises(RequestError, match="memory attention"):
            choose_attention_dtype("float32", torch.bfloat16, asked, device, **how)
