"""What bfloat16 does to mask logits at full size: one frame, generated weights."""

from __future__ import annotations

import copy
from typing import Any

import torch

from benchmarks.models import Frames, embeddings_of
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.preprocess import grounding_pixels


@torch.inference_mode()
def logit_error(grounding: Sam2Grounding) -> list[dict[str, Any]]:
    """Against float32 (the dtype that `grounding` has to have): the encoder alone in bfloat16, and all of it.
    Logits of one prompted mask; errors as parts of their standard deviation."""
    exact = _logits(grounding)
    rows = []
    for name, whole in (("image encoder", False), ("all modules", True)):
        half = copy.deepcopy(grounding)
        (half if whole else half.image_encoder).to(torch.bfloat16)
        error = (_logits(half) - exact).abs() / exact.std()
        rows.append(
            {
                "bfloat16": name,
                "mean_error": round(float(error.mean()), 5),
                "largest_error": round(float(error.max()), 5),
            }
        )
    return rows


def _logits(grounding: Sam2Grounding) -> torch.Tensor:
    parameter = grounding.no_object_pointer
    pixels = torch.from_numpy(grounding_pixels(Frames(1).pictures, grounding.config.image_size))
    features = grounding.encode(pixels.to(parameter.device, parameter.dtype))
    prompt = grounding.language_prompt(embeddings_of(grounding, 1))
    decoded = grounding.decode(features, grounding.without_memory(features), prompt, language=True)
    return grounding.choose(decoded, gate=False).logits.float()
