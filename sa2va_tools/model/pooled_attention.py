"""Memory attention over fewer keys: the fast mode of tracking, an approximation.

What a frame attends to grows with the memories, s·s tokens each; every window of tokens is taken together
here. The idea is that of EfficientTAM (arXiv 2411.18933, section 3.2); here keys keep the rotary position of
their window's middle, and each counts as often as the tokens that it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.sam2_video.modeling_sam2_video import rotate_pairwise

from sa2va_tools.errors import RequestError
from sa2va_tools.model.config import GroundingConfig
from sa2va_tools.model.memory_product import MemoryCrossAttention

_Rotation = tuple[Tensor, Tensor]


def check_window(config: GroundingConfig, window: int) -> None:
    """RequestError where memories of that SAM-2 cannot be pooled by `window`."""
    if window > 1 and (config.implementation != "transformers" or config.top_side % window):
        raise RequestError(
            "Fast tracking is made for the SAM-2 modules of transformers, with maps of even sides.",
            hint="Unset SA2VA_FAST_TRACKING (or SA2VA_GROUNDING).",
        )


def pooled_attention(
    attention: Any,
    flat: Tensor,
    flat_places: Tensor,
    memory: Tensor,
    places: Tensor,
    *,
    pointer_tokens: int,
    side: int,
    window: int,
) -> Tensor:
    """What transformers' `Sam2VideoMemoryAttention` computes, with memories pooled by `window` × `window`.

    `flat` (s·s, N, C) and `memory` (M·s·s + pointer_tokens, N, 64), each with its position encodings; → (N,
    s·s, C). ValueError where the window does not divide the side.
    """
    if side % window:
        raise ValueError(f"a window of {window} does not divide maps of {side} × {side}")
    spatial = len(memory) - pointer_tokens
    keys = _pooled(memory + places, spatial, side, window)
    values = _pooled(memory, spatial, side, window)
    own = attention.rotary_emb(flat, attention.position_ids)
    other = attention.rotary_emb(flat, _middles(attention.position_ids, side, window))
    weight = keys.new_zeros(keys.shape[1])
    weight[: keys.shape[1] - pointer_tokens] = 2 * math.log(window)
    queries = (flat + 0.1 * flat_places).transpose(0, 1)
    for layer in attention.layers:
        normed = layer.layer_norm1(queries)[:, None]
        attended, _ = layer.self_attn(query=normed, key=normed, value=normed, position_embeddings=own)
        queries = queries + attended[:, 0]
        queries = queries + _crossed(
            layer.cross_attn_image,
            layer.layer_norm2(queries),
            keys,
            values,
            (own, other),
            weight,
            pointer_tokens,
        )
        normed = layer.layer_norm3(queries)
        queries = queries + layer.linear2(layer.activation(layer.linear1(normed)))
    output: Tensor = attention.layer_norm(queries)
    return output


def _pooled(tokens: Tensor, spatial: int, side: int, window: int) -> Tensor:
    """(M·s·s + P, N, c) → (N, M·(s/window)² + P, c)"""
    count, width = tokens.shape[1:]
    maps = tokens[:spatial].reshape(-1, side, side, count, width).permute(3, 0, 4, 1, 2)
    small = F.avg_pool2d(maps.flatten(0, 1), window).flatten(2).transpose(1, 2)
    return torch.cat([small.reshape(count, -1, width), tokens[spatial:].transpose(0, 1)], dim=1)


def _middles(position_ids: Tensor, side: int, window: int) -> Tensor:
    """(s·s, 2) positions of tokens → ((s/window)², 2) of the middles of windows."""
    grid = position_ids.float().reshape(side, side, 2).permute(2, 0, 1)
    return F.avg_pool2d(grid, window).flatten(1).T


def _crossed(
    module: Any,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    rotations: Sequence[_Rotation],
    weight: Tensor,
    pointer_tokens: int,
) -> Tensor:
    """Cross-attention of one layer, (N, s·s, C); `weight` is added to the scores of each key."""
    heads = (module.num_attention_heads, module.head_dim)
    asked, known = (
        projection(tokens).unflatten(-1, heads).transpose(1, 2)
        for projection, tokens in ((module.q_proj, queries), (module.k_proj, keys))
    )
    spatial = known.shape[2] - pointer_tokens
    repeats = spatial // rotations[1][0].shape[-2]
    turned = _rotated(known[:, :, :spatial], *(each.repeat(1, repeats, 1) for each in rotations[1]))
    asked, known = _rotated(asked, *rotations[0]), torch.cat([turned, known[:, :, spatial:]], dim=2)
    if isinstance(module, MemoryCrossAttention) and module.takes_tiles(asked, known):
        return module.attended(asked[:, 0], known[:, 0], values, weight)
    attended = F.scaled_dot_product_attention(
        asked,
        known,
        module.v_proj(values).unflatten(-1, heads).transpose(1, 2),
        attn_mask=weight.expand(asked.shape[2], -1),
        scale=module.scaling,
    )
    output: Tensor = module.o_proj(attended.transpose(1, 2).flatten(2))
    return output


def _rotated(tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """In float32, as the exact attention does."""
    wide = tokens.float()
    return (wide * cos + rotate_pairwise(wide) * sin).to(tokens.dtype)
