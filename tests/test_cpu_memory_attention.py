"""Memory attention in tiles: the library's result, in any number format."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention

from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.device.placement import cpu_threads
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.sam2 import cpu_memory_attention
from sa2va_tools.model.sam2.cpu_memory_attention import (
    MemoryCrossAttention,
    attend_in_tiles,
    set_product_dtype,
)
from sa2va_tools.run import Run

MEMORIES, POINTER_TOKENS = 3, 8


def load_sam2():
    loaded = load_checkpoint(NANO_FOLDER, devices=(torch.device("cpu"),), dtype=torch.float32, run=Run())
    return loaded.modules.sam2


@pytest.fixture
def sam2(monkeypatch):
    """The nano's, whose products count as large, in more than one tile each way."""
    monkeypatch.setattr(cpu_memory_attention, "_LARGE", 1)
    monkeypatch.setattr(cpu_memory_attention, "_QUERIES_PER_THREAD", 48)
    monkeypatch.setattr(cpu_memory_attention, "_KEYS", 100)
    return load_sam2()


def attend(sam2, *, objects=2):
    """Memory attention of random features, the same in each call."""
    side, draw = sam2.config.top_side, torch.Generator().manual_seed(0)
    flat = torch.randn(side**2, objects, sam2.config.hidden_dim, generator=draw)
    tokens = MEMORIES * side**2 + POINTER_TOKENS
    memory = torch.randn(tokens, objects, sam2.config.mem_dim, generator=draw)
    places = torch.randn(memory.shape, generator=draw)
    dtype = sam2.no_object_pointer.dtype
    given = (each.to(dtype) for each in (flat, memory, places))
    with torch.inference_mode():
        return sam2._run_memory_attention(*given, pointer_tokens=POINTER_TOKENS).float()


def with_library_attention(sam2):
    library = copy.deepcopy(sam2)
    for layer in library.memory_attention.layers:
        assert type(layer.cross_attn_image) is MemoryCrossAttention
        layer.cross_attn_image.__class__ = Sam2VideoRoPEAttention
    return library


def relative_error(one, other):
    return float((one - other).abs().max() / other.std())


def test_tiles_give_what_the_library_gives(sam2):
    exact = attend(with_library_attention(sam2))
    assert relative_error(attend(sam2), exact) < 1e-5
    set_product_dtype(sam2, torch.bfloat16)
    assert 1e-5 < relative_error(attend(sam2), exact) < 0.05


def test_the_format_of_products_changes_less_than_that_of_all_modules(sam2):
    exact = attend(with_library_attention(sam2))
    halved = copy.deepcopy(sam2).to(torch.bfloat16)
    set_product_dtype(sam2, torch.bfloat16)
    assert relative_error(attend(sam2), exact) < relative_error(attend(halved), exact) < 0.2


def test_small_products_are_left_to_the_library(monkeypatch):
    sam2 = load_sam2()
    monkeypatch.setattr(cpu_memory_attention, "attend_in_tiles", None)  # would fail if it were called
    assert torch.equal(attend(sam2), attend(with_library_attention(sam2)))
    set_product_dtype(sam2, torch.float32)
    assert torch.equal(attend(sam2), attend(with_library_attention(sam2)))


def test_objects_together_are_the_objects_alone_whatever_the_threads(sam2):
    together = attend(sam2)
    side = sam2.config.top_side**2
    with cpu_threads(2):
        assert relative_error(attend(sam2), together) < 1e-5
    assert together.shape == (2, side, sam2.config.hidden_dim)


def test_in_training_nothing_changes(sam2):
    module = sam2.memory_attention.layers[0].cross_attn_image
    large = torch.zeros(1, 4096, 256)
    assert module._uses_tiles(large, large)
    sam2.train()
    assert not module._uses_tiles(large, large)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_scores_do_no_harm(dtype):
    draw = torch.Generator().manual_seed(1)
    query, key = (torch.randn(count, 32, generator=draw) for count in (700, 3000))
    value = torch.randn(3000, 8, generator=draw).to(dtype)
    query, key = (40 * query).to(dtype), key.to(dtype)
    ours = attend_in_tiles(query, key, value)
    expected = F.scaled_dot_product_attention(
        query[None].double(), key[None].double(), value[None].double(), scale=1
    )[0]
    assert ours.dtype == torch.float32 and bool(ours.isfinite().all())
    # In bfloat16 scores of hundreds are rounded to whole numbers, and the largest takes nearly all.
    assert float((ours - expected).abs().mean()) < (1e-5 if dtype == torch.float32 else 0.2)
