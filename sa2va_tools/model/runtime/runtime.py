"""A loaded checkpoint, ready for questions: numpy in, numpy out.

The only part of the model that the engine holds. Knows pictures, prompts and masks; nothing about files,
handles or ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, InitVar, dataclass, field
from pathlib import Path

import torch

from sa2va_tools.model.checkpoints import memory_estimate
from sa2va_tools.model.checkpoints.loader import LoadedCheckpoint, load_checkpoint
from sa2va_tools.model.checkpoints.memory_estimate import MemoryEstimate, Work
from sa2va_tools.model.checkpoints.quantization import Quantization
from sa2va_tools.model.config import Capabilities
from sa2va_tools.model.device import placement
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.model.device.cancellation import CancelHooks
from sa2va_tools.model.device.memory_policy import BatchSizes, MemoryPolicy
from sa2va_tools.model.device.placement import Precision
from sa2va_tools.model.output import DeviceInfo
from sa2va_tools.model.runtime.language import Language
from sa2va_tools.model.runtime.masks import Masks
from sa2va_tools.model.sam2.compiling import compile_image_encoder
from sa2va_tools.model.sam2.cpu_memory_attention import set_product_dtype
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.run import Run

_SMALL_CHECKPOINT_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Session:
    """One run's use of the model."""

    runtime: Sa2vaRuntime
    run: Run
    policy: MemoryPolicy
    language: Language
    masks: Masks


@dataclass(eq=False, repr=False)
class Sa2vaRuntime:
    """One checkpoint on one device (its language model may spread over several)."""

    checkpoint: LoadedCheckpoint
    name: str
    _: KW_ONLY
    precision: InitVar[Precision | None] = None
    quantize: Quantization | None = None
    devices: Sequence[torch.device] = ()
    batch_sizes: BatchSizes = field(default_factory=BatchSizes)
    threads: int | None = None
    cache_bytes: InitVar[int] = 0
    compiled: bool = False

    def __post_init__(self, precision: Precision | None, cache_bytes: int) -> None:
        self.config = self.checkpoint.config
        self.revision = self.checkpoint.revision
        self.cache = ByteCache(cache_bytes)
        self._precision = precision or Precision(*(self._main_parameter.dtype,) * 3)
        modules = self.checkpoint.modules
        self._weight_bytes = sum(each.numel() * each.element_size() for each in modules.parameters())
        # Hooks would cut a compiled module into pieces.
        self._cancel_hooks = CancelHooks(modules, skip=modules.sam2.image_encoder if self.compiled else None)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        quantize: Quantization | None = None,
        sam2_decoder: Path | None = None,
        sam2_class: type[Sam2] = Sam2,
        compile: bool = False,
        cache_bytes: int | None = 0,
        run: Run | None = None,
    ) -> Sa2vaRuntime:
        """Load a checkpoint's folder. Raises CheckpointError and its kinds, RequestError for a device that is
        not available, OutOfMemoryError if the weights do not fit."""
        devices = placement.choose_devices(device)
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        small = weights < _SMALL_CHECKPOINT_BYTES
        if cache_bytes is None:
            # Small models recompute quickly, and their memory should stay flat however long a video is.
            cache_bytes = 2**26 if small else 2**31
        precision = placement.choose_precision(dtype, devices[0], small=small)
        threads = placement.choose_threads(devices[0], small=small)
        batch_sizes = placement.choose_batch_sizes(devices[0], small=small)
        checkpoint = load_checkpoint(
            folder,
            devices=devices,
            dtype=precision.modules,
            quantize=quantize,
            sam2_decoder=sam2_decoder,
            sam2_class=sam2_class,
            run=run or Run(),
        )
        sam2 = checkpoint.modules.sam2
        sam2.image_encoder.to(precision.image_encoder)
        set_product_dtype(sam2, precision.memory_attention)
        if compile:
            # With the threads and kernels of later runs: torch compiles again for others.
            with placement.cpu_threads(threads), placement.exact_convolutions(_encoder_parameter(sam2)):
                compile_image_encoder(sam2, batch_sizes.frames)
        return cls(
            checkpoint,
            name or folder.name,
            precision=precision,
            quantize=quantize,
            devices=devices,
            batch_sizes=batch_sizes,
            threads=threads,
            cache_bytes=cache_bytes,
            compiled=compile,
        )

    @contextmanager
    def session(self, run: Run) -> Iterator[Session]:
        """Use the model for one run: with its number of CPU threads, exact float32 arithmetic where it is
        float32, and a cancel that is noticed between any two layers."""
        policy = MemoryPolicy(self.cache, self.batch_sizes, run.stats)
        parameters = (self._main_parameter, _encoder_parameter(self.checkpoint.modules.sam2))
        with (
            placement.cpu_threads(self.threads),
            placement.exact_convolutions(*parameters),
            placement.fast_attention(self._main_parameter.device),
            self._cancel_hooks.follow(run),
        ):
            language = Language(self.checkpoint, policy, run)
            masks = Masks(self.checkpoint.modules.sam2, policy, run)
            yield Session(self, run, policy, language, masks)

    @property
    def capabilities(self) -> Capabilities:
        return self.config.capabilities

    @property
    def device_info(self) -> DeviceInfo:
        parameter = self._main_parameter
        name = torch.cuda.get_device_name(parameter.device) if parameter.is_cuda else parameter.device.type
        device = ",".join(map(str, self.devices)) or str(parameter.device)
        return DeviceInfo(device, self._describe_precision(), name)

    def _describe_precision(self) -> str:
        """The dtype, and everything else about the arithmetic that differs from the published model."""
        precision = self._precision
        parts = [str(precision.modules)]
        if self.quantize is not None:
            parts.append(f"layers {self.quantize}")
        if precision.image_encoder != precision.modules:
            parts.append(f"image encoder {precision.image_encoder}")
        if precision.memory_attention != precision.modules:
            parts.append(f"memory attention {precision.memory_attention}")
        if self.compiled:
            parts.append("image encoder compiled")
        return ", ".join(parts).replace("torch.", "")

    @property
    def free_bytes(self) -> int | None:
        """Free memory on the model's device, including what is cached there; None if unknown."""
        free = placement.free_bytes(self._main_parameter.device)
        return None if free is None else free + self.cache.bytes

    def estimate_memory(self, work: Work) -> MemoryEstimate:
        """About how much memory this work needs, weights included."""
        return memory_estimate.estimate_memory(
            self.config,
            str(self._precision.modules).removeprefix("torch."),
            work,
            device=self._main_parameter.device.type,
            weights=self._weight_bytes,
        )

    def require_working_memory(self, prompt_frames: int | None = None) -> None:
        """OutOfMemoryError if tracking a single object certainly does not fit into host memory: an operating
        system that promises more memory than it has would end the process instead."""
        if self._main_parameter.device.type == "cpu":
            width = self._main_parameter.element_size()
            memory_estimate.require_working_memory(self.config, width, self.free_bytes, prompt_frames)

    @property
    def _main_parameter(self) -> torch.Tensor:
        """A parameter on the device and in the dtype of the model's inputs."""
        return self.checkpoint.modules.sam2.no_object_pointer


def _encoder_parameter(sam2: Sam2) -> torch.Tensor:
    return next(sam2.image_encoder.parameters())
