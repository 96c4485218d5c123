"""What a propagation costs beside the sum of its own steps."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.measuring import fair_seconds
from benchmarks.models import Frames, embeddings_of
from benchmarks.reference import KEY_FRAMES
from benchmarks.walks import Ours
from sa2va_tools.model.device import Pace
from sa2va_tools.model.grounding import FrameFeatures, Memory, Sam2Grounding
from sa2va_tools.model.preprocess import grounding_pixels


@torch.inference_mode()
def parts(
    grounding: Sam2Grounding, frames: Frames, objects: int, *, pace: Pace, wall_s: float | None = None
) -> dict[str, float]:
    """The wall time of a propagation (measured here, or just before) over the sum of its steps, each timed
    alone."""
    parameter = grounding.no_object_pointer
    device, config = parameter.device, grounding.config
    embeddings = embeddings_of(grounding, objects)
    if wall_s is None:
        wall_s = fair_seconds(lambda: Ours(grounding, pace).masks(frames, embeddings), device)
    pixels = torch.from_numpy(grounding_pixels(frames.pictures[: pace.batch], config.image_size))
    pixels = pixels.to(device, parameter.dtype)
    encode_s = fair_seconds(lambda: grounding.encode(pixels), device) / len(pixels)
    features = grounding.encode(pixels[:1])
    language = grounding.language_prompt(embeddings)
    chosen = grounding.choose(
        grounding.decode(features, grounding.without_memory(features), language), gate=False
    )
    memory: Memory = grounding.encode_memory(features, chosen, torch.bfloat16)
    remember_s = fair_seconds(lambda: grounding.encode_memory(features, chosen, torch.bfloat16), device)
    total, tracked = encode_s * len(frames), len(frames) - KEY_FRAMES
    for step in range(tracked):
        recent = min(step, config.num_maskmem - 1)
        memories = [(0, memory.features)] * KEY_FRAMES + [(k + 1, memory.features) for k in range(recent)]
        pointers = [memory.pointer] * min(config.max_object_pointers, KEY_FRAMES + step)
        total += fair_seconds(partial(_follow, grounding, features, memories, pointers, objects), device)
    total += remember_s * len(frames)
    return {
        "frames": len(frames),
        "objects": objects,
        "wall_s": round(wall_s, 3),
        "parts_s": round(total, 3),
        "overhead": round(wall_s / total, 3),
        "encode_s": round(encode_s, 4),
    }


def _follow(
    grounding: Sam2Grounding,
    features: FrameFeatures,
    memories: list[tuple[int, torch.Tensor]],
    pointers: list[torch.Tensor],
    objects: int,
) -> None:
    """What a tracked frame costs beside its encoding and remembering."""
    attended = grounding.attend(features, memories, pointers)
    grounding.choose(grounding.decode(features, attended, grounding.empty_prompt(objects)), gate=False)
