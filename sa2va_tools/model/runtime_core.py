"""What every ability of a loaded checkpoint stands on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va_tools.model.asking import READINGS, Asking
from sa2va_tools.model.cache import ByteCache
from sa2va_tools.model.config import Capabilities
from sa2va_tools.model.device import AT_EASE, Pace
from sa2va_tools.model.feature_stream import DROPPED, MOVED
from sa2va_tools.model.interrupts import Interrupts
from sa2va_tools.model.loading import Loaded
from sa2va_tools.model.offload import host_spare
from sa2va_tools.model.out_of_memory import release
from sa2va_tools.model.quantised import Quantisation
from sa2va_tools.model.speed import Speed
from sa2va_tools.model.tally import Tally


class RuntimeCore:
    """A checkpoint in memory, and what is kept of its work."""

    def __init__(
        self,
        loaded: Loaded,
        name: str,
        *,
        threads: int | None = None,
        memory_dtype: torch.dtype = torch.bfloat16,
        quantize: Quantisation | None = None,
        devices: Sequence[torch.device] = (),
        pace: Pace = AT_EASE,
        cache_bytes: int = 0,
        host_bytes: int = 0,
        compiled: bool = False,
        slow: bool = False,
    ) -> None:
        """What was seen and read is kept within `cache_bytes` on the device, and `host_bytes` besides in host
        memory. `compiled`: SAM-2's image encoder is. `slow`: a single layer may take seconds, in which a
        cancel is to be heard."""
        self._pace, self.speed = pace, Speed()
        self.cache = ByteCache(cache_bytes, host_spare(host_bytes))
        self.tally = Tally()
        self._loaded, self.name = loaded, name
        self._quantize, self._devices = quantize, devices
        self._threads = threads
        self.config, self.revision = loaded.config, loaded.revision
        self._modules, self._tokenizer = loaded.modules, loaded.tokenizer
        self._asking = Asking(self._modules, self._tokenizer, loaded.chat, self.cache)
        self._memory_dtype = memory_dtype
        self._weight_bytes = sum(each.numel() * each.element_size() for each in self._modules.parameters())
        self._compiled = compiled
        self._interrupts = Interrupts()
        # A compiled module would be cut into pieces by what looks in between its layers.
        encoder = loaded.modules.grounding.image_encoder
        self._interrupts.watch(
            loaded.modules,
            but=encoder if compiled else None,
            closely=slow,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self.config.capabilities

    def make_room(self) -> bool:
        """Let go of what was kept on the device of media that was seen. False where nothing was.

        Of what the language model has read nothing is moved: whoever goes on from it has it twice.
        """
        held = self.cache.bytes > 0
        if held:
            self.cache.forget(READINGS)
            self.cache.retreat()
            self.tally.relieved(MOVED if self.cache.spare else DROPPED)
        release()
        return held

    @property
    def _home(self) -> torch.Tensor:
        """A parameter that lies where the model's inputs go, in the dtype that they have."""
        return self._modules.grounding.no_object_pointer

    def _to_device(self, array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._home.device, self._home.dtype)
