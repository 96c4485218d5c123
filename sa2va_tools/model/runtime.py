"""A loaded checkpoint, ready to be asked: numpy in, numpy out.

The only class of this package that the engine holds. Knows pictures, prompts and masks; nothing of
files, handles or ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sa2va_tools.model.compiling import compile_encoder_of
from sa2va_tools.model.device import (
    choose_attention_dtype,
    choose_cache_bytes,
    choose_devices,
    choose_dtype,
    choose_encoder_dtype,
    choose_host_bytes,
    choose_pace,
    choose_threads,
    cpu_threads,
    exact_convolutions,
)
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.memory_product import multiply_memories_in, product_dtype_of
from sa2va_tools.model.out_of_memory import memory_guard
from sa2va_tools.model.output import DeviceFacts
from sa2va_tools.model.pooled_attention import check_window
from sa2va_tools.model.quantised import Quantisation
from sa2va_tools.model.runtime_masks import RuntimeMasks
from sa2va_tools.model.runtime_words import RuntimeWords
from sa2va_tools.model.tally import Tally
from sa2va_tools.progress import CancelToken

_SMALL_PARAMETERS = 50_000_000


class Sa2vaRuntime(RuntimeWords, RuntimeMasks):
    """One checkpoint on one device."""

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        encoder_dtype: str = "auto",
        attention_dtype: str = "auto",
        fast_tracking: bool = False,
        compile_encoder: bool = False,
        quantize: Quantisation | None = None,
        threads: int | None = None,
        sam2_decoder: Path | None = None,
        grounding: str = "transformers",
        cache_bytes: int | None = 0,
        cancel: CancelToken | None = None,
        on_file: Callable[[int, int], None] = lambda done, total: None,
    ) -> Sa2vaRuntime:
        """Load a checkpoint's folder; raises CheckpointError and its kinds, RequestError for a device
        that is not there, OutOfMemoryError where it does not fit."""
        place, *others = choose_devices(device)
        small = sum(file.stat().st_size for file in folder.glob("*.safetensors")) < 2 * _SMALL_PARAMETERS
        pace = choose_pace(place, small=small, fast=fast_tracking)
        base = choose_dtype(dtype, place, small=small)
        encoder = choose_encoder_dtype(encoder_dtype, base, dtype, place, small=small)
        attention = choose_attention_dtype(
            attention_dtype, base, dtype, place, small=small, ours=grounding == "transformers"
        )
        with memory_guard(f"The checkpoint {folder.name}"):
            loaded = load_checkpoint(
                folder,
                device=place,
                dtype=base,
                others=others,
                quantize=quantize,
                sam2_decoder=sam2_decoder,
                grounding=grounding,
                cancel=cancel,
                on_file=on_file,
            )
            loaded.modules.grounding.image_encoder.to(encoder)
        multiply_memories_in(attention, loaded.modules.grounding)
        kept = choose_cache_bytes(cache_bytes, small=small)
        check_window(loaded.config.grounding, pace.window)
        threads = choose_threads(threads, place, small=small)
        if compile_encoder:
            parameter = _encoder_parameter(loaded.modules.grounding)
            # As it will be at work: for other numbers of threads torch would compile anew.
            with (
                memory_guard("Compiling SAM-2's image encoder"),
                cpu_threads(threads),
                exact_convolutions(parameter),
            ):
                compile_encoder_of(loaded.modules.grounding, pace.batch)
        return cls(
            loaded,
            name or folder.name,
            threads=threads,
            quantize=quantize,
            devices=(place, *others),
            pace=pace,
            compiled=compile_encoder,
            slow=place.type == "cpu" and not small,
            cache_bytes=kept,
            host_bytes=choose_host_bytes(kept, place),
        )

    @contextmanager
    def at_work(self, cancel: CancelToken | None = None) -> Iterator[None]:
        """Around everything that is asked of the model: its number of CPU threads and the exactness of its
        arithmetic, only meanwhile; `cancel` is heard between any two layers. What `tally` says is of this
        work."""
        self.tally = Tally()
        with (
            cpu_threads(self._threads),
            exact_convolutions(self._home, _encoder_parameter(self._modules.grounding)),
            self._interrupts.heard_by(cancel),
        ):
            yield

    @property
    def facts(self) -> DeviceFacts:
        home = self._home
        name = torch.cuda.get_device_name(home.device) if home.is_cuda else home.device.type
        return DeviceFacts(",".join(map(str, self._devices)) or str(home.device), self._numbers, name)

    @property
    def _numbers(self) -> str:
        """The dtype, and whatever else of the arithmetic is not that of the published model."""
        encoder = _encoder_parameter(self._modules.grounding).dtype
        said = [str(self._home.dtype)]
        if self._quantize is not None:
            said.append(f"layers {self._quantize}")
        if encoder != self._home.dtype:
            said.append(f"image encoder {encoder}")
        attention = product_dtype_of(self._modules.grounding)
        if attention not in (None, self._home.dtype):
            said.append(f"memory attention {attention}")
        if self._pace.window > 1:
            said.append(f"memories pooled {self._pace.window}x{self._pace.window}")
        if self._compiled:
            said.append("image encoder compiled")
        return ", ".join(said).replace("torch.", "")


def _encoder_parameter(grounding: Sam2Grounding) -> torch.Tensor:
    return next(grounding.image_encoder.parameters())
