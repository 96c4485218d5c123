"""Memory attention of a frame late in a clip: as transformers computes it, and as the engine does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention

from benchmarks.measuring import measure_median
from benchmarks.models import draw_embeddings, draw_pixels, dtype_name
from benchmarks.reference import PROMPT_FRAMES
from sa2va_tools.model.sam2.cpu_memory_attention import set_product_dtype
from sa2va_tools.model.sam2.modules import FrameFeatures, FrameMemory, MaskPrediction, Sam2


@torch.inference_mode()
def measure_attention(
    sam2: Sam2, *, product_dtype: torch.dtype | None = None, objects: int = 1, repeats: int = 3
) -> dict[str, Any]:
    """Medians for a frame that attends to all memories of a long clip. On a CPU the engine computes the large
    products in `product_dtype`; None is the dtype of the modules, which is also that of transformers'."""
    like = sam2.no_object_pointer
    features, _, memory = make_memory(sam2, objects)
    ours = copy.deepcopy(sam2)
    set_product_dtype(ours, product_dtype or like.dtype)
    library = copy.deepcopy(sam2)
    for layer in library.memory_attention.layers:
        layer.cross_attn_image.__class__ = Sam2VideoRoPEAttention
    library_s, ours_s = (
        measure_median(attend_to_all(modules, features, memory), like.device, repeats)
        for modules in (library, ours)
    )
    return {
        "dtype": dtype_name(like.dtype),
        "products": dtype_name(product_dtype or like.dtype),
        "objects": objects,
        "memories": len(all_slots(sam2)),
        "library_s": round(library_s, 4),
        "ours_s": round(ours_s, 4),
        "ratio": round(library_s / ours_s, 2),
    }


def make_memory(sam2: Sam2, objects: int) -> tuple[FrameFeatures, MaskPrediction, FrameMemory]:
    """Features of a frame, the masks of some objects on it, and what later frames may attend to."""
    features = sam2.encode(draw_pixels(sam2, 1))
    prompt = sam2.language_prompt(draw_embeddings(sam2, objects))
    candidates = sam2.decode(features, sam2.embed_without_memory(features), prompt, language=True)
    prediction = sam2.select_best_mask(candidates, gate=False)
    return features, prediction, sam2.encode_memory(features, prediction, torch.bfloat16)


def all_slots(sam2: Sam2) -> list[int]:
    """The memories of a frame late in a clip: those of the prompt frames, then of the last frames."""
    return [0] * PROMPT_FRAMES + list(range(1, sam2.config.num_maskmem))


def attend_to_all(sam2: Sam2, features: FrameFeatures, memory: FrameMemory) -> Callable[[], Tensor]:
    """A call of memory attention with as many memories as there ever are, all of them equal."""
    memories = [(slot, memory.features) for slot in all_slots(sam2)]
    pointers = [memory.pointer] * sam2.config.max_object_pointers
    return lambda: sam2.attend(features, memories, pointers)
