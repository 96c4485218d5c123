"""Memory attention at steady state: exact, and over pooled memories."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch

from benchmarks.measuring import timed
from benchmarks.models import embeddings_of
from benchmarks.reference import KEY_FRAMES
from sa2va_tools.model.grounding import Sam2Grounding


@torch.inference_mode()
def attention_speed(grounding: Sam2Grounding, *, objects: int = 1, repeats: int = 3) -> dict[str, Any]:
    """Medians for a frame that attends to all that a long clip leaves: five key frames and the last ones."""
    config, parameter = grounding.config, grounding.no_object_pointer
    side = config.image_size
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    features = grounding.encode(pixels.to(parameter.device, parameter.dtype))
    prompt = grounding.language_prompt(embeddings_of(grounding, objects))
    decoded = grounding.decode(features, grounding.without_memory(features), prompt, language=True)
    kept = grounding.encode_memory(features, grounding.choose(decoded, gate=False), torch.bfloat16)
    slots = [0] * KEY_FRAMES + list(range(1, config.num_maskmem))
    memories = [(slot, kept.features) for slot in slots]
    pointers = [kept.pointer] * config.max_object_pointers
    seconds = {}
    for window in (1, 2):
        attend = partial(grounding.attend, features, memories, pointers, window=window)
        attend()
        seconds[window] = statistics.median(timed(attend, parameter.device) for _ in range(repeats))
    return {
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "objects": objects,
        "memories": len(memories),
        "exact_s": round(seconds[1], 4),
        "pooled_s": round(seconds[2], 4),
        "ratio": round(seconds[1] / seconds[2], 2),
    }
