"""Keys and values of a language model, as transformers caches them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

RowSuffix = list[tuple[Tensor, Tensor]]
"""Per layer, keys and values (1, heads, tokens, width) that one row added after a shared prefix."""


class SharedPrefixLayer(DynamicLayer):
    """One layer of several rows with a common prefix: the prefix is held once, and joined with each row's own
    keys and values only while the layer runs."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self._prefix = (keys, values)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        own = super().update(key_states, value_states, *args, **kwargs)
        keys, values = (
            torch.cat([prefix.expand(len(each), -1, -1, -1), each], -2)
            for prefix, each in zip(self._prefix, own, strict=True)
        )
        return keys, values

    def get_seq_length(self) -> int:
        length: int = super().get_seq_length()
        return self._prefix[0].shape[-2] + length


def cache_argument(language_model: nn.Module, key_values: DynamicCache) -> dict[str, DynamicCache]:
    """`key_values` under the keyword that this version of transformers uses: `cache` from 5.24 on, where the
    old name warns (it goes in 5.40), and `past_key_values` before."""
    return {_cache_keyword(type(language_model).forward): key_values}


@lru_cache
def _cache_keyword(forward: Callable[..., Any]) -> str:
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def copy_prefix(cache: DynamicCache, length: int) -> DynamicCache:
    """The first `length` tokens, with storage of their own."""
    copied = copy.deepcopy(cache)
    surplus = copied.get_seq_length() - length
    if surplus:
        copied.crop(-surplus)  # negative: how many tokens to remove from the end
    return copied


def share_prefix(cache: DynamicCache, length: int) -> DynamicCache:
    """A cache for rows that all continue the first `length` tokens, which stay in `cache`'s storage."""
    shared = DynamicCache()
    if length:
        shared.layers = [
            SharedPrefixLayer(layer.keys[..., :length, :], layer.values[..., :length, :])
            for layer in cache.layers
        ]
    return shared


def copy_row_suffix(cache: DynamicCache, row: int, start: int) -> RowSuffix:
    """A copy of what one row added after the shared prefix and `start` tokens of padding."""
    return [
        (layer.keys[row : row + 1, :, start:].clone(), layer.values[row : row + 1, :, start:].clone())
        for layer in cache.layers
    ]


def join_prefix(cache: DynamicCache, length: int, suffix: RowSuffix) -> DynamicCache:
    """The first `length` tokens of `cache`, then `suffix`, with storage of their own."""
    joined = DynamicCache()
    for number, row in enumerate(suffix):
        layer = cache.layers[number]
        keys, values = (
            torch.cat([prefix[..., :length, :], each], -2) if length else each
            for prefix, each in zip((layer.keys, layer.values), row, strict=True)
        )
        joined.update(keys, values, number)
    return joined


def select_rows(cache: DynamicCache, rows: Sequence[int]) -> None:
    """Drop all rows except these."""
    for layer in cache.layers:
        index = torch.tensor(rows, device=layer.keys.device)
        layer.keys = layer.keys[index]
        layer.values = layer.values[index]


def count_cache_bytes(cache: DynamicCache) -> int:
    """The size of the keys and values of all layers."""
    tensors = (each for layer in cache.layers for each in (layer.keys, layer.values))
    return sum(each.numel() * each.element_size() for each in tensors if each is not None)
