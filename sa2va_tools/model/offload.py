"""What is kept on a device, moved into host memory and back to where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from sa2va_tools.model.cache import ByteCache, Spare
from sa2va_tools.model.out_of_memory import attempt


@dataclass(frozen=True, slots=True)
class _Away:
    """A tensor in host memory, and the device that it came from."""

    tensor: Tensor
    home: torch.device


@dataclass(frozen=True, slots=True)
class _AwayStates:
    """Per layer, keys and values."""

    layers: tuple[tuple[_Away, _Away], ...]


def host_spare(budget: int) -> Spare | None:
    """A second place of `budget` bytes in host memory for a device's cache; None for 0 bytes."""
    if not budget:
        return None

    def away(value: Any) -> Any | None:
        return attempt(partial(sent_away, value))

    def back(value: Any) -> Any | None:
        return attempt(partial(brought_back, value))

    return Spare(ByteCache(budget), away, back)


def sent_away(value: Any) -> Any:
    """`value` with its tensors (in dataclasses, tuples, lists, key-value caches) in host memory. For
    `brought_back` alone.

    Not in pinned memory: torch rounds each block of it up to a power of two and never gives it back to the
    system, so that a budget in bytes would not hold.
    """
    if isinstance(value, Tensor):
        return _Away(torch.empty_like(value, device="cpu").copy_(value), value.device)
    if isinstance(value, DynamicCache):
        return _AwayStates(tuple((sent_away(layer.keys), sent_away(layer.values)) for layer in value.layers))
    return _in_each(value, sent_away)


def brought_back(value: Any) -> Any:
    """The opposite: equal numbers on the devices that they came from, in storage of their own."""
    if isinstance(value, _Away):
        return value.tensor.to(value.home, copy=True)
    if isinstance(value, _AwayStates):
        states = DynamicCache()
        for number, (keys, values) in enumerate(value.layers):
            states.update(brought_back(keys), brought_back(values), number)
        return states
    return _in_each(value, brought_back)


def _in_each(value: Any, change: Callable[[Any], Any]) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: change(getattr(value, each.name)) for each in fields(value)})
    if isinstance(value, tuple | list):
        made = [change(each) for each in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return value
