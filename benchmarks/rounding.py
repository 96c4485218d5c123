"""What bfloat16 does to mask logits at full size, on two frames of a track with random weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import MemoryClip, apply_precision, draw_embeddings
from sa2va_tools.model.device.placement import Precision
from sa2va_tools.model.preprocessing.tiles import sam2_pixels
from sa2va_tools.model.sam2.modules import Sam2

_PARTS = {
    "image encoder": Precision(torch.float32, torch.bfloat16, torch.float32),
    "image encoder, products of memory attention": Precision(torch.float32, torch.bfloat16, torch.bfloat16),
    "all modules": Precision(torch.bfloat16, torch.bfloat16, torch.bfloat16),
}


@torch.inference_mode()
def measure_rounding(sam2: Sam2) -> list[dict[str, Any]]:
    """Parts of `sam2`, which has to be float32, in bfloat16. Errors of the logits of a mask that was tracked
    for one frame, as parts of their standard deviation."""
    exact = _track_one_frame(sam2)
    rows = []
    for name, precision in _PARTS.items():
        rounded = _track_one_frame(apply_precision(copy.deepcopy(sam2), precision))
        error = (rounded - exact).abs() / exact.std()
        rows.append(
            {
                "bfloat16": name,
                "mean_error": round(float(error.mean()), 5),
                "largest_error": round(float(error.max()), 5),
            }
        )
    return rows


def _track_one_frame(sam2: Sam2) -> Tensor:
    """Logits on the second of two frames."""
    like = sam2.no_object_pointer
    pixels = torch.from_numpy(sam2_pixels(MemoryClip(2).pictures, sam2.config.image_size))
    first, second = (sam2.encode(each[None].to(like.device, like.dtype)) for each in pixels)
    prompt = sam2.language_prompt(draw_embeddings(sam2, 1))
    candidates = sam2.decode(first, sam2.embed_without_memory(first), prompt, language=True)
    memory = sam2.encode_memory(first, sam2.select_best_mask(candidates, gate=False), torch.bfloat16)
    embedded = sam2.attend(second, [(0, memory.features)], [memory.pointer])
    candidates = sam2.decode(second, embedded, sam2.empty_prompt(1))
    return sam2.select_best_mask(candidates, gate=False).logits.float()
