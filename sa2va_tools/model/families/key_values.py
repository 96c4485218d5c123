"""Keys and values of a language model, as transformers keeps them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

OwnStates = list[tuple[Tensor, Tensor]]
"""Per layer, keys and values (1, heads, tokens, width) of what one row read after a shared beginning."""


class SharedLayer(DynamicLayer):
    """One layer of several rows that begin alike: the beginning is held once, and joined with what each row
    read after it only while the layer is at work."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self._beginning = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        own = super().update(key_states, value_states, *args, **kwargs)
        keys, values = (
            torch.cat([shared.expand(len(each), -1, -1, -1), each], -2)
            for shared, each in zip(self._beginning, own, strict=True)
        )
        return keys, values

    def get_seq_length(self) -> int:
        length: int = super().get_seq_length()
        return self._beginning[0].shape[-2] + length


def copied_states(states: DynamicCache, length: int) -> DynamicCache:
    """The first `length` tokens, with storage of their own."""
    made = copy.deepcopy(states)
    surplus = made.get_seq_length() - length
    if surplus:
        made.crop(-surplus)  # negative: how many to take off the end
    return made


def shared_states(states: DynamicCache, length: int) -> DynamicCache:
    """For rows that all go on from the first `length` tokens, which stay in the storage of `states`."""
    made = DynamicCache()
    if length:
        made.layers = [
            SharedLayer(layer.keys[..., :length, :], layer.values[..., :length, :]) for layer in states.layers
        ]
    return made


def own_states(rows: DynamicCache, row: int, start: int) -> OwnStates:
    """A copy of what one of the `rows` read after the shared beginning and `start` tokens of padding."""
    return [
        (layer.keys[row : row + 1, :, start:].clone(), layer.values[row : row + 1, :, start:].clone())
        for layer in rows.layers
    ]


def joined_states(states: DynamicCache, length: int, own: OwnStates) -> DynamicCache:
    """The first `length` tokens of `states`, then `own`, in storage of their own."""
    made = DynamicCache()
    for number, row in enumerate(own):
        layer = states.layers[number]
        keys, values = (
            torch.cat([shared[..., :length, :], each], -2) if length else each
            for shared, each in zip((layer.keys, layer.values), row, strict=True)
        )
        made.update(keys, values, number)
    return made


def select_rows(rows: DynamicCache, numbers: Sequence[int]) -> None:
    """Keep these rows only."""
    for layer in rows.layers:
        chosen = torch.tensor(numbers, device=layer.keys.device)
        layer.keys, layer.values = layer.keys[chosen], layer.values[chosen]


def states_bytes(states: DynamicCache) -> int:
    """Of all layers."""
    kept = (each for layer in states.layers for each in (layer.keys, layer.values))
    return sum(each.numel() * each.element_size() for each in kept if each is not None)
