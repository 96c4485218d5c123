"""The engine's propagation beside the published procedure, and beside the sum of its own parts."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import Any

import torch

from benchmarks.machine import device_name
from benchmarks.measuring import timed
from benchmarks.models import Frames, Size, embeddings_of, grounding_of
from benchmarks.one_way import both_ways
from benchmarks.reference import KEY_FRAMES, Reference, passes
from sa2va_tools.model.cache import ByteCache
from sa2va_tools.model.device import Pace, choose_pace, choose_threads, cpu_threads
from sa2va_tools.model.grounding import FrameFeatures, Memory, Sam2Grounding
from sa2va_tools.model.preprocess import grounding_pixels
from sa2va_tools.model.propagation import Propagator


class Ours:
    """The engine's way through the same frames."""

    def __init__(self, grounding: Sam2Grounding, *, batch: int, cache: ByteCache | None = None) -> None:
        self.walker = Propagator(grounding, gate=False, pace=Pace(batch=batch), cache=cache)
        self.walker.logits_of = {}

    @torch.inference_mode()
    def masks(self, frames: Frames, embeddings: torch.Tensor) -> int:
        keys = range(min(KEY_FRAMES, len(frames)))
        return sum(1 for _ in self.walker.language(frames, keys, embeddings))

    def logits(self) -> torch.Tensor:
        kept = self.walker.logits_of or {}
        return torch.stack([kept[position] for position in sorted(kept)], 1)


class Published:
    """The published way through clips; a way that was gone is not gone again."""

    def __init__(self, grounding: Sam2Grounding) -> None:
        self.grounding = grounding
        self._gone: dict[tuple[int, int], tuple[float, torch.Tensor]] = {}

    def seconds_and_logits(self, frames: Frames, objects: int) -> tuple[float, torch.Tensor]:
        """(objects, frames, 4s, 4s) logits, of the first of all embeddings."""
        if (len(frames), objects) not in self._gone:
            reference, embeddings = Reference(self.grounding), embeddings_of(self.grounding, objects)
            device = embeddings.device
            seconds = timed(lambda: reference.masks(frames.pictures, embeddings), device)
            assert reference.encoder_passes == passes(len(frames), objects)
            self._gone[len(frames), objects] = seconds, torch.stack(reference.logits).cpu()
        return self._gone[len(frames), objects]


def compare(
    published: Published, frames: Frames, objects: int, *, batch: int, whole: bool = True
) -> dict[str, float]:
    """Ratio of the reference's time to ours. Unless `whole`, of several objects one goes the published way
    and its time is multiplied, for there each goes by itself."""
    grounding = published.grounding
    embeddings, ours = embeddings_of(grounding, objects), Ours(grounding, batch=batch)
    device = embeddings.device
    measured = objects if whole or len(frames) == 1 else 1
    theirs_s, other = published.seconds_and_logits(frames, measured)
    ours_s = timed(lambda: ours.masks(frames, embeddings), device)
    assert ours.walker.encoder_passes == len(frames)
    one = ours.logits()[:measured]
    same = ((one > 0) == (other > 0)).float().mean()
    return {
        "frames": len(frames),
        "objects": objects,
        "reference_s": round(theirs_s * objects / measured, 3),
        "reference_measured_objects": measured,
        "ours_s": round(ours_s, 3),
        "ratio": round(theirs_s * objects / measured / ours_s, 3),
        "reference_passes": passes(len(frames), objects),
        "our_passes": ours.walker.encoder_passes,
        "equal_pixels": round(float(same), 6),
        "logit_difference": round(float((one - other).abs().max()), 6),
    }


@torch.inference_mode()
def parts(
    grounding: Sam2Grounding, frames: Frames, objects: int, *, batch: int, wall_s: float | None = None
) -> dict[str, float]:
    """The wall time of a propagation (measured here, or just before) over the sum of its steps, each timed
    alone."""
    parameter = grounding.no_object_pointer
    device, config = parameter.device, grounding.config
    embeddings = embeddings_of(grounding, objects)
    if wall_s is None:
        wall_s = timed(lambda: Ours(grounding, batch=batch).masks(frames, embeddings), device)
    pixels = torch.from_numpy(grounding_pixels(frames.pictures[:batch], config.image_size))
    pixels = pixels.to(device, parameter.dtype)
    encode_s = timed(lambda: grounding.encode(pixels), device) / len(pixels)
    features = grounding.encode(pixels[:1])
    language = grounding.language_prompt(embeddings)
    chosen = grounding.choose(
        grounding.decode(features, grounding.without_memory(features), language), gate=False
    )
    memory: Memory = grounding.encode_memory(features, chosen, torch.bfloat16)
    remember_s = timed(lambda: grounding.encode_memory(features, chosen, torch.bfloat16), device)
    total, tracked = encode_s * len(frames), len(frames) - KEY_FRAMES
    for step in range(tracked):
        recent = min(step, config.num_maskmem - 1)
        memories = [(0, memory.features)] * KEY_FRAMES + [(k + 1, memory.features) for k in range(recent)]
        pointers = [memory.pointer] * min(config.max_object_pointers, KEY_FRAMES + step)

        total += timed(partial(_follow, grounding, features, memories, pointers, objects), device)
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


def measure(
    size: Size,
    device: torch.device,
    dtype: str,
    *,
    frames: int,
    memory_frames: tuple[int, ...] = (),
    batch: int | None = None,
) -> dict[str, Any]:
    """Time, memory and masks of both ways; the engine's time beside its parts."""
    small = size == "nano"
    grounding = grounding_of(size, device, getattr(torch, dtype))
    batch = batch or choose_pace(device, small=small).batch
    Ours(grounding, batch=batch).masks(Frames(2), embeddings_of(grounding, 1))  # warm up
    # The large encoder takes minutes on a CPU.
    whole = small or device.type == "cuda"
    published, clip = Published(grounding), Frames(frames)
    compared = [
        compare(published, Frames(count), objects, batch=batch, whole=whole)
        for count, objects in ((frames, 1), (frames, 5), (1, 3))
    ]
    return {
        "size": size,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "batch": batch,
        "torch": torch.__version__,
        "against_the_published_procedure": compared,
        "memory": [
            both_ways(size, device, dtype, count, objects, batch)
            for count in memory_frames
            for objects in ((1, 5) if whole else (1,))
        ],
        "against_the_sum_of_parts": [
            parts(grounding, clip, int(row["objects"]), batch=batch, wall_s=row["ours_s"])
            for row in compared
            if row["frames"] > KEY_FRAMES
        ],
    }


def main() -> None:
    """`python -m benchmarks.propagation --size hiera-l`: one JSON document on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("nano", "hiera-l"), default="nano")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--memory-frames", type=int, nargs="*", help="default: as many as --frames")
    parser.add_argument("--batch", type=int)
    wish = parser.parse_args()
    memory = (wish.frames,) if wish.memory_frames is None else tuple(wish.memory_frames)
    device = torch.device(wish.device)
    with cpu_threads(choose_threads(None, device, small=wish.size == "nano")):  # as the engine does
        report = measure(
            wish.size, device, wish.dtype, frames=wish.frames, memory_frames=memory, batch=wish.batch
        )
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
