"""SAM-2's image encoder through `torch.compile`: at once, so that what it lacks is said before any work."""

from __future__ import annotations

import torch

from sa2va_tools.errors import RequestError
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.out_of_memory import is_out_of_memory


def compile_encoder_of(grounding: Sam2Grounding, batch: int) -> None:
    """Compile it, which takes minutes: for batches of that many frames, for any smaller ones, and for single
    frames, which torch treats apart. Raises RequestError where torch cannot compile here."""
    grounding.image_encoder.compile()
    parameter, side = grounding.no_object_pointer, grounding.config.image_size
    frames = torch.zeros(batch, 3, side, side, device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.inference_mode():
            for count in sorted({batch, (batch + 1) // 2, 1}, reverse=True):
                grounding.encode(frames[:count])
    except Exception as error:
        if is_out_of_memory(error):
            raise
        first_line = str(error).strip().partition("\n")[0]
        raise RequestError(
            f"SAM-2's image encoder cannot be compiled here: {first_line}",
            hint="Unset SA2VA_COMPILE_ENCODER, or install a C++ compiler (CPU) or Triton (CUDA).",
        ) from error
