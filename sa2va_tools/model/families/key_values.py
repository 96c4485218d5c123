"""Keys and values of a language model, as transformers keeps them."""

from __future__ import annotations

import copy

from transformers import DynamicCache


def copied_states(states: DynamicCache, length: int) -> DynamicCache:
    """The first `length` tokens, with storage of their own."""
    made = copy.deepcopy(states)
    surplus = made.get_seq_length() - length
    if surplus:
        made.crop(-surplus)  # negative: how many to take off the end
    return made


def states_bytes(states: DynamicCache) -> int:
    """Of all layers."""
    kept = (each for layer in states.layers for each in (layer.keys, layer.values))
    return sum(each.numel() * each.element_size() for each in kept if each is not None)
