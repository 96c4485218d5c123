"""A language model that is too large for one GPU: its layers on several, all else whole on the first.

SAM-2, the picture encoder, embeddings, head and the `[SEG]` projection stay at home; a token's state travels
once per border between devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sa2va_tools.model.device import free_bytes
from sa2va_tools.model.sa2va import Sa2VA

_WORKING_BYTES = 2 * 2**30  # what pictures and SAM-2 at work take on the first device


def shares(layer_bytes: Sequence[int], free_bytes: Sequence[int], home_bytes: int) -> list[int]:
    """The number of the device for each layer, in order: as much of the layers on each device as it has of
    the memory that is free, once the first one has taken `home_bytes`. Each layer lies where its middle
    falls."""
    room = [max(free_bytes[0] - home_bytes, 0), *free_bytes[1:]]
    total, whole = sum(layer_bytes), max(sum(room), 1)
    borders = [sum(room[: number + 1]) / whole for number in range(len(room))]
    chosen, passed = [], 0
    for size in layer_bytes:
        middle = (passed + size / 2) / total
        chosen.append(next((n for n, border in enumerate(borders) if middle <= border), len(room) - 1))
        passed += size
    return chosen


@dataclass(frozen=True, slots=True)
class Spread:
    """Where every parameter goes."""

    home: torch.device
    layers_name: str
    places: tuple[torch.device, ...]
    """Of each layer; all at home where there is one device."""

    @classmethod
    def over(cls, modules: Sa2VA, devices: Sequence[torch.device], width: int) -> Spread:
        """Plan for modules without storage, of `width` bytes a weight, by the memory that is free."""
        layers = modules.mllm.layers
        name = next(name for name, module in modules.named_modules() if module is layers)
        if len(devices) == 1:
            return cls(devices[0], name, (devices[0],) * len(layers))
        sizes = [width * sum(each.numel() for each in layer.parameters()) for layer in layers]
        rest = width * sum(each.numel() for each in modules.parameters()) - sum(sizes)
        free = [free_bytes(device) or 0 for device in devices]
        chosen = shares(sizes, free, rest + _WORKING_BYTES)
        return cls(devices[0], name, tuple(devices[number] for number in chosen))

    def place_of(self, name: str) -> torch.device:
        """Of a parameter or buffer, by its name in the modules."""
        if not name.startswith(f"{self.layers_name}."):
            return self.home
        return self.places[int(name.removeprefix(f"{self.layers_name}.").partition(".")[0])]

    def connect(self, modules: Sa2VA) -> None:
        """Let each layer take what it is given to its own device, and the last one bring its output home."""
        if set(self.places) == {self.home}:
            return
        layers = modules.mllm.layers
        for layer, place in zip(layers, self.places, strict=True):
            layer.register_forward_pre_hook(_bringing(place), with_kwargs=True)
        layers[-1].register_forward_hook(lambda _, args, output: _moved(output, self.home))


def _bringing(place: torch.device) -> Callable[[nn.Module, Any, Any], Any]:
    return lambda _, args, kwargs: (_moved(args, place), _moved(kwargs, place))


def _moved(value: Any, place: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(place)
    if isinstance(value, dict):
        return {name: _moved(each, place) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_moved(each, place) for each in value)
    return value
