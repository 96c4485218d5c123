"""The large product of memory attention on a CPU: in tiles, over narrow values, in a format of its own.

A frame of a full-size SAM-2 attends to some 45,000 tokens of 64 channels, which are projected to 256 for
keys and for values. The weights of a row sum to one, so values may be projected after the weighted sum,
A(MW + b) = (AM)W + b: 3/8 fewer multiplications. Tiles stay in a core's cache and share a running maximum
(Milakov and Gimelshein, arXiv 1805.02867), as in torch's own kernel, which wants values as wide as keys, and
which on CPUs takes as long in bfloat16 as in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoRoPEAttention,
    apply_rotary_pos_emb_2d,
)

_ROWS, _COLUMNS = 512, 1024
"""Queries of a tile for each thread, and keys: 2 MB of float32."""
_LARGE = 2**24
"""Pairs of a query and a key from which tiles pay; below, torch's kernel is as quick."""


class MemoryCrossAttention(Sam2VideoRoPEAttention):
    """The same parameters, and the same result but for rounding."""

    product_dtype: torch.dtype | None = None
    """Of queries, keys, weights and values in the product; None is that of the parameters."""

    @staticmethod
    def between_pieces() -> None:
        """Called before each row of tiles; `interrupts` puts its own in this place."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        num_k_exclude_rope: int = 0,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """(N, 1, q, C), (N, 1, k, 64), (N, 1, k, 64) → (N, 1, q, C)"""
        if not self.takes_tiles(query, key):
            made: tuple[Tensor, Tensor | None] = super().forward(
                query=query,
                key=key,
                value=value,
                position_embeddings=position_embeddings,
                num_k_exclude_rope=num_k_exclude_rope,
                **kwargs,
            )
            return made
        asked, known = apply_rotary_pos_emb_2d(
            self.q_proj(query),
            self.k_proj(key),
            *position_embeddings,
            repeat_freqs_k=self.rope_k_repeat,
            num_k_exclude_rope=num_k_exclude_rope,
        )
        return self.attended(asked[:, 0], known[:, 0], value[:, 0])[:, None], None

    def takes_tiles(self, query: Tensor, key: Tensor) -> bool:
        """On a CPU, where the product is large or has a number format of its own; never in training."""
        wished = self.product_dtype not in (None, query.dtype)
        large = query.shape[-2] * key.shape[-2] >= _LARGE
        return query.device.type == "cpu" and (large or wished) and not self.training

    def attended(self, asked: Tensor, known: Tensor, told: Tensor, weight: Tensor | None = None) -> Tensor:
        """Projected and turned queries and keys, (N, q, d) and (N, k, d), and values as they come, (N, k, c)
        → (N, q, C). `weight` (k,) is added to the scores of each key."""
        dtype = self.product_dtype or asked.dtype
        rows = [
            attention_in_tiles(
                (one[0] * self.scaling).to(dtype),
                _centred(one[1]).to(dtype),
                one[2].to(dtype),
                weight=None if weight is None else weight.to(dtype),
                before_row=self.between_pieces,
            )
            for one in zip(asked, known, told, strict=True)
        ]
        output: Tensor = self.o_proj(self.v_proj(torch.stack(rows).to(asked.dtype)))
        return output


def attention_in_tiles(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    weight: Tensor | None = None,
    before_row: Callable[[], None] = MemoryCrossAttention.between_pieces,
) -> Tensor:
    """softmax(query keyᵀ + weight) value: (q, d), (k, d), (k, c), (k,) of one dtype → (q, c) float32."""
    height = _ROWS * torch.get_num_threads()
    keys, values = key.split(_COLUMNS), value.split(_COLUMNS)
    weights = [None] * len(keys) if weight is None else weight.split(_COLUMNS)
    rows = []
    for part in query.split(height):
        before_row()
        peak = query.new_full((len(part), 1), -torch.inf)
        total = torch.zeros(len(part), 1)
        summed = torch.zeros(len(part), value.shape[1])
        for known, told, more in zip(keys, values, weights, strict=True):
            scores = part @ known.T
            if more is not None:
                scores += more
            higher = torch.maximum(peak, scores.amax(1, keepdim=True))
            shares = scores.sub_(higher).exp_()
            fade, peak = (peak - higher).exp_().float(), higher
            total.mul_(fade).add_(shares.sum(1, keepdim=True, dtype=torch.float32))
            summed.mul_(fade).add_(shares @ told)
        rows.append(summed.div_(total))
    return torch.cat(rows)


def _centred(known: Tensor) -> Tensor:
    """What all keys share moves all scores of a query alike: without it they are smaller, and round less."""
    return known - known.mean(0)


def attend_in_tiles(memory_attention: Any) -> None:
    """Let every cross-attention of a SAM-2's memory attention be ours, where its one head allows it."""
    for layer in memory_attention.layers:
        module = layer.cross_attn_image
        if module.num_attention_heads == 1 and module.kv_in_dim < module.internal_dim:
            module.__class__ = MemoryCrossAttention


def multiply_memories_in(dtype: torch.dtype, modules: nn.Module) -> None:
    """The number format of all products in `modules` that are ours."""
    for module in _ours(modules):
        module.product_dtype = dtype


def product_dtype_of(modules: nn.Module) -> torch.dtype | None:
    """Of the products in `modules` that are ours; None where there are none, or none was told."""
    return next((module.product_dtype for module in _ours(modules)), None)


def _ours(modules: nn.Module) -> Iterator[MemoryCrossAttention]:
    return (each for each in modules.modules() if isinstance(each, MemoryCrossAttention))
