"""Compile SAM-2's image encoder with `torch.compile`, up front, so that problems show before any work."""

from __future__ import annotations

import torch

from sa2va_tools.errors import RequestError
from sa2va_tools.memory_errors import is_memory_error
from sa2va_tools.model.sam2.modules import Sam2


def compile_image_encoder(sam2: Sam2, batch: int) -> None:
    """Compile for batches of `batch` frames, for smaller ones, and for single frames, which torch treats
    apart. Takes minutes. Raises RequestError if torch cannot compile here."""
    sam2.image_encoder.compile()
    parameter = sam2.no_object_pointer
    side = sam2.config.image_size
    try:
        with torch.inference_mode():  # also for the frames: torch compiles again for tensors made outside
            frames = torch.zeros(batch, 3, side, side, device=parameter.device, dtype=parameter.dtype)
            for count in sorted({batch, (batch + 1) // 2, 1}, reverse=True):
                sam2.encode(frames[:count])
    except Exception as error:
        if is_memory_error(error):
            raise
        first_line = str(error).strip().partition("\n")[0]
        raise RequestError(
            f"SAM-2's image encoder cannot be compiled here: {first_line}",
            hint="Unset SA2VA_COMPILE, or install Triton (CUDA) or a C++ compiler (CPU).",
        ) from error
