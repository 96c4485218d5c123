"""A language model that is too large for one GPU: its layers on several, everything else on the first.

SAM-2, the picture encoder, embeddings, head and the `[SEG]` projection stay on the first device. accelerate
plans where each layer goes, and its hooks move a layer's inputs; weights are placed while they are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sa2va_tools.model.device.placement import free_bytes
from sa2va_tools.model.sa2va import Sa2VA

_WORKING_BYTES = 2 * 2**30
"""What pictures and SAM-2 take on the first device while they are processed."""


@dataclass(frozen=True, slots=True)
class DeviceMap:
    """Where every parameter and buffer goes."""

    main: torch.device
    layers_name: str
    """Of the language model's layers, as in `Sa2VA.named_modules`."""
    layer_devices: tuple[torch.device, ...]

    @classmethod
    def plan(cls, modules: Sa2VA, devices: Sequence[torch.device], dtype: torch.dtype) -> DeviceMap:
        """A map for modules without storage: each device gets layers in proportion to its free memory, the
        first one after everything else has been counted."""
        layers = modules.mllm.layers
        name = next(name for name, module in modules.named_modules() if module is layers)
        if len(devices) == 1:
            return cls(devices[0], name, (devices[0],) * len(layers))
        from accelerate import infer_auto_device_map

        layer_bytes = [sum(each.numel() for each in layer.parameters()) * dtype.itemsize for layer in layers]
        total = sum(layer_bytes)
        other_bytes = sum(each.numel() for each in modules.parameters()) * dtype.itemsize - total
        rooms = [free_bytes(device) or 0 for device in devices]
        rooms[0] = max(rooms[0] - other_bytes - _WORKING_BYTES, 0)
        largest = max(layer_bytes)
        rounding = largest // 2
        budgets = {n: total * room // max(sum(rooms), 1) + rounding for n, room in enumerate(rooms)}
        budgets[0] += largest  # accelerate reserves as much there, for layers that are offloaded
        budgets[len(rooms) - 1] += total  # the last one takes all that is left
        numbers = infer_auto_device_map(
            layers,
            max_memory=budgets,
            no_split_module_classes=[type(layer).__name__ for layer in layers],
            dtype=dtype,
            clean_result=False,
        )
        return cls(devices[0], name, tuple(devices[numbers[str(n)]] for n in range(len(layers))))

    def find_device(self, name: str) -> torch.device:
        """The device of a parameter or buffer, by its name in the modules."""
        if not name.startswith(f"{self.layers_name}."):
            return self.main
        return self.layer_devices[int(name.removeprefix(f"{self.layers_name}.").partition(".")[0])]

    def connect(self, modules: torch.nn.Module) -> None:
        """Move the inputs of each layer to its device, and those of the norm after the last layer back."""
        if set(self.layer_devices) == {self.main}:
            return
        from accelerate.hooks import AlignDevicesHook, add_hook_to_module

        layers: torch.nn.Module = modules.get_submodule(self.layers_name)
        norm = modules.get_submodule(f"{self.layers_name.rpartition('.')[0]}.norm")
        # dispatch_model would hook every projection as well: 0.3 ms more per layer and token.
        for module, device in zip((*layers.children(), norm), (*self.layer_devices, self.main), strict=True):
            add_hook_to_module(module, AlignDevicesHook(device))
