"""What bfloat16 does to mask logits at full size: two frames of a track, generated weights."""

from __future__ import annotations

import copy
from typing import Any

import torch

from benchmarks.models import Frames, embeddings_of, in_format
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.memory_product import multiply_memories_in
from sa2va_tools.model.preprocess import grounding_pixels


def _encoder(grounding: Sam2Grounding) -> None:
    in_format(grounding.image_encoder, torch.bfloat16)


def _encoder_and_attention(grounding: Sam2Grounding) -> None:
    _encoder(grounding)
    multiply_memories_in(torch.bfloat16, grounding)


def _everything(grounding: Sam2Grounding) -> None:
    in_format(grounding, torch.bfloat16)


_CHANGES = {
    "image encoder": _encoder,
    "image encoder, products of memory attention": _encoder_and_attention,
    "all modules": _everything,
}


@torch.inference_mode()
def logit_error(grounding: Sam2Grounding) -> list[dict[str, Any]]:
    """Against float32 (the dtype that `grounding` has to have): parts of it in bfloat16, and all of it.
    Logits of a mask that was followed for one frame; errors as parts of their standard deviation."""
    exact = _logits(grounding)
    rows = []
    for name, change in _CHANGES.items():
        half = copy.deepcopy(grounding)
        change(half)
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
    pixels = torch.from_numpy(grounding_pixels(Frames(2).pictures, grounding.config.image_size))
    first, second = (grounding.encode(each[None].to(parameter.device, parameter.dtype)) for each in pixels)
    prompt = grounding.language_prompt(embeddings_of(grounding, 1))
    decoded = grounding.decode(first, grounding.without_memory(first), prompt, language=True)
    memory = grounding.encode_memory(first, grounding.choose(decoded, gate=False), torch.bfloat16)
    attended = grounding.attend(second, [(0, memory.features)], [memory.pointer])
    decoded = grounding.decode(second, attended, grounding.empty_prompt(1))
    return grounding.choose(decoded, gate=False).logits.float()
