"""SAM-2's memory attention on a CPU: the large matrix product in tiles, in narrow number formats.

A frame of a full-size SAM-2 attends to about 45,000 memory tokens of 64 channels, which are projected to 256
for keys and for values. Attention weights sum to one, so values may be projected after the weighted sum, A(MW
+ b) = (AM)W + b, which saves 3/8 of the multiplications. Tiles stay in a core's cache and share a running
maximum (Milakov and Gimelshein, arXiv 1805.02867), as in torch's own kernel; that one wants values as wide as
keys, and on CPUs it takes as long in bfloat16 as in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.sam2_video import modeling_sam2_video as modeling

_QUERIES_PER_THREAD = 512
_KEYS = 1024
"""Queries (for each thread) and keys of a tile: 2 MB of float32."""
_LARGE = 2**24
"""Query-key pairs from which tiles pay off; below, torch's kernel is as fast."""


class MemoryCrossAttention(modeling.Sam2VideoRoPEAttention):
    """Has the same parameters and gives the same result up to rounding."""

    product_dtype: torch.dtype | None = None
    """Number format of the product; None means that of the parameters."""

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
        if not self._uses_tiles(query, key):
            return super().forward(query, key, value, position_embeddings, num_k_exclude_rope, **kwargs)
        rotated_query, rotated_key = modeling.apply_rotary_pos_emb_2d(
            self.q_proj(query),
            self.k_proj(key),
            *position_embeddings,
            repeat_freqs_k=self.rope_k_repeat,
            num_k_exclude_rope=num_k_exclude_rope,
        )
        return self._attend(rotated_query[:, 0], rotated_key[:, 0], value[:, 0])[:, None], None

    def _uses_tiles(self, query: Tensor, key: Tensor) -> bool:
        """On a CPU, if the product is large or has a number format of its own; never during training."""
        has_own_dtype = self.product_dtype not in (None, query.dtype)
        is_large = query.shape[-2] * key.shape[-2] >= _LARGE
        return query.device.type == "cpu" and (is_large or has_own_dtype) and not self.training

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Projected, rotated queries (N, q, d), keys (N, k, d), unprojected values (N, k, c) → (N, q, C)."""
        dtype = self.product_dtype or query.dtype
        rows = [
            # What all keys share shifts all scores of a query alike, and smaller scores round less.
            attend_in_tiles((q * self.scaling).to(dtype), (k - k.mean(0)).to(dtype), v.to(dtype))
            for q, k, v in zip(query, key, value, strict=True)
        ]
        return self.o_proj(self.v_proj(torch.stack(rows).to(query.dtype)))


def attend_in_tiles(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query keyᵀ) value: (q, d), (k, d), (k, c) of one dtype → (q, c) float32."""
    rows = []
    for part in query.split(_QUERIES_PER_THREAD * torch.get_num_threads()):
        peak = query.new_full((len(part), 1), -torch.inf)
        total = torch.zeros(len(part), 1)
        weighted_sum = torch.zeros(len(part), value.shape[1])
        for keys, values in zip(key.split(_KEYS), value.split(_KEYS), strict=True):
            scores = part @ keys.T
            new_peak = torch.maximum(peak, scores.amax(1, keepdim=True))
            weights = scores.sub_(new_peak).exp_()
            decay = (peak - new_peak).exp_().float()
            peak = new_peak
            total.mul_(decay).add_(weights.sum(1, keepdim=True, dtype=torch.float32))
            weighted_sum.mul_(decay).add_(weights @ values)
        rows.append(weighted_sum.div_(total))
    return torch.cat(rows)


def install(memory_attention: Any) -> None:
    """Replace the cross-attention in each layer of memory attention, where its single head allows."""
    for layer in memory_attention.layers:
        module = layer.cross_attn_image
        if module.num_attention_heads == 1 and module.kv_in_dim < module.internal_dim:
            module.__class__ = MemoryCrossAttention


def set_product_dtype(modules: nn.Module, dtype: torch.dtype) -> None:
    """Choose the number format of the products of every installed cross-attention in `modules`."""
    for module in modules.modules():
        if isinstance(module, MemoryCrossAttention):
            module.product_dtype = dtype
