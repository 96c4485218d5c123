"""What tracking costs compared to the sum of its own steps."""

from __future__ import annotations

from collections import Counter

import torch

from benchmarks.attention import make_memory
from benchmarks.engine_tracking import EngineTracking
from benchmarks.measuring import measure_fairly, measure_repeated, measure_seconds
from benchmarks.models import MemoryClip, draw_embeddings
from benchmarks.reference import PROMPT_FRAMES
from sa2va_tools.model.device.memory_policy import BatchSizes
from sa2va_tools.model.preprocessing.tiles import sam2_pixels
from sa2va_tools.model.sam2.modules import Sam2


@torch.inference_mode()
def compare_with_parts(
    sam2: Sam2, clip: MemoryClip, objects: int, *, sizes: BatchSizes, wall_s: float | None = None
) -> dict[str, float]:
    """The wall time of tracking (measured here, unless it is given) over the sum of its steps, each of which
    is timed alone with the engine's own batches of frames and groups of objects."""
    device = sam2.no_object_pointer.device
    if wall_s is None:
        tracking = EngineTracking(sam2, sizes)
        embeddings = draw_embeddings(sam2, objects)
        wall_s = measure_fairly(lambda: tracking.track(clip, embeddings), device)
    encode_s = _measure_encoding(sam2, clip, sizes.frames)
    groups = Counter(min(sizes.objects, objects - start) for start in range(0, objects, sizes.objects))
    track_s = sum(times * _measure_steps(sam2, group, len(clip)) for group, times in groups.items())
    return {
        "frames": len(clip),
        "objects": objects,
        "wall_s": round(wall_s, 3),
        "parts_s": round(encode_s + track_s, 3),
        "overhead": round(wall_s / (encode_s + track_s), 3),
        "encode_s": round(encode_s / len(clip), 4),
    }


def _measure_encoding(sam2: Sam2, clip: MemoryClip, batch: int) -> float:
    """Seconds of the image encoder for the whole clip."""
    like = sam2.no_object_pointer
    pixels = torch.from_numpy(sam2_pixels(clip.pictures[:batch], sam2.config.image_size))
    pixels = pixels.to(like.device, like.dtype)
    batches = len(clip) / len(pixels)
    whole_batches = max(1, int(batches))
    seconds = measure_repeated(lambda: sam2.encode(pixels), whole_batches, like.device)
    return seconds * batches / whole_batches


def _measure_steps(sam2: Sam2, objects: int, frames: int) -> float:
    """Seconds of tracking some objects together through a clip: memory attention and decoder on each frame
    after the prompt frames, with as many memories as there are by then, and the memory encoder on every
    frame."""
    config = sam2.config
    device = sam2.no_object_pointer.device
    features, prediction, memory = make_memory(sam2, objects)

    def track(step: int) -> None:
        recent = min(step, config.num_maskmem - 1)
        slots = [0] * PROMPT_FRAMES + [slot + 1 for slot in range(recent)]
        pointers = [memory.pointer] * min(config.max_object_pointers, PROMPT_FRAMES + step)
        embedded = sam2.attend(features, [(slot, memory.features) for slot in slots], pointers)
        sam2.select_best_mask(sam2.decode(features, embedded, sam2.empty_prompt(objects)), gate=False)

    def track_all() -> None:
        for step in range(frames - PROMPT_FRAMES):
            track(step)

    def remember() -> None:
        sam2.encode_memory(features, prediction, torch.bfloat16)

    track(0)  # what is computed only once
    return measure_seconds(track_all, device) + measure_repeated(remember, frames, device)
