"""What a propagation costs beside the sum of its own steps."""

from __future__ import annotations

from collections import Counter
from functools import partial

import torch

from benchmarks.measuring import fair_seconds, repeated_seconds, timed
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
    """The wall time of a propagation (measured here, or just before) over the sum of its steps, each kind
    timed alone, at the engine's own batch of frames and groups of objects."""
    parameter = grounding.no_object_pointer
    device, config = parameter.device, grounding.config
    if wall_s is None:
        ours, embeddings = Ours(grounding, pace), embeddings_of(grounding, objects)
        wall_s = fair_seconds(lambda: ours.masks(frames, embeddings), device)
    pixels = torch.from_numpy(grounding_pixels(frames.pictures[: pace.batch], config.image_size))
    pixels = pixels.to(device, parameter.dtype)
    batches = len(frames) / len(pixels)
    encode_s = repeated_seconds(lambda: grounding.encode(pixels), max(1, int(batches)), device)
    encode_s *= batches / max(1, int(batches))
    features = grounding.encode(pixels[:1])
    groups = Counter(min(pace.group, objects - start) for start in range(0, objects, pace.group))
    followed_s = sum(
        times * _followed_seconds(grounding, features, together, len(frames), device)
        for together, times in groups.items()
    )
    return {
        "frames": len(frames),
        "objects": objects,
        "wall_s": round(wall_s, 3),
        "parts_s": round(encode_s + followed_s, 3),
        "overhead": round(wall_s / (encode_s + followed_s), 3),
        "encode_s": round(encode_s / len(frames), 4),
    }


def _followed_seconds(
    grounding: Sam2Grounding, features: FrameFeatures, objects: int, frames: int, device: torch.device
) -> float:
    """Of following some objects together through the clip: memory attention and decoder on each frame behind
    the key frames, with as many memories as there are by then, and the memory encoder on every frame."""
    config, prompt = grounding.config, grounding.language_prompt(embeddings_of(grounding, objects))
    decoded = grounding.decode(features, grounding.without_memory(features), prompt, language=True)
    chosen = grounding.choose(decoded, gate=False)
    remember = partial(grounding.encode_memory, features, chosen, torch.bfloat16)
    memory: Memory = remember()

    def follow(step: int) -> None:
        recent = min(step, config.num_maskmem - 1)
        memories = [(0, memory.features)] * KEY_FRAMES + [(k + 1, memory.features) for k in range(recent)]
        pointers = [memory.pointer] * min(config.max_object_pointers, KEY_FRAMES + step)
        attended = grounding.attend(features, memories, pointers)
        grounding.choose(grounding.decode(features, attended, grounding.empty_prompt(objects)), gate=False)

    steps = range(frames - KEY_FRAMES)
    follow(0)  # what is only made once
    return timed(lambda: [follow(step) for step in steps], device) + repeated_seconds(
        remember, frames, device
    )
