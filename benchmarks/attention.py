"""Memory attention at steady state: as transformers has it, as we do, and over pooled memories."""

from __future__ import annotations

import copy
import statistics
from functools import partial
from typing import Any

import torch
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention

from benchmarks.measuring import timed
from benchmarks.models import embeddings_of
from benchmarks.reference import KEY_FRAMES
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.memory_product import multiply_memories_in


@torch.inference_mode()
def attention_speed(
    grounding: Sam2Grounding, *, products: torch.dtype | None = None, objects: int = 1, repeats: int = 3
) -> dict[str, Any]:
    """Medians for a frame that attends to all that a long clip leaves: five key frames and the last ones. On
    a CPU the large products are taken in `products`; None is the modules' own format, as transformers' are.
    """
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
    products = products or parameter.dtype
    ours = copy.deepcopy(grounding)
    multiply_memories_in(products, ours)
    theirs = copy.deepcopy(grounding)
    for layer in theirs.memory_attention.layers:
        layer.cross_attn_image.__class__ = Sam2VideoRoPEAttention
    seconds = []
    for modules, window in ((theirs, 1), (ours, 1), (ours, 2)):
        attend = partial(modules.attend, features, memories, pointers, window=window)
        attend()
        seconds.append(statistics.median(timed(attend, parameter.device) for _ in range(repeats)))
    library, exact, pooled = seconds
    return {
        "dtype": _word(parameter.dtype),
        "products": _word(products),
        "objects": objects,
        "memories": len(memories),
        "library_s": round(library, 4),
        "exact_s": round(exact, 4),
        "pooled_s": round(pooled, 4),
        "ratio_to_library": round(library / exact, 2),
        "ratio": round(exact / pooled, 2),
    }


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
