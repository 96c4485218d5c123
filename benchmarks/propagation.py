"""The engine's propagation beside the published procedure, and beside the sum of its own parts."""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.machine import device_name
from benchmarks.measuring import as_the_engine, fair_seconds
from benchmarks.models import Frames, Size, embeddings_of, grounding_of, in_format
from benchmarks.one_way import both_ways
from benchmarks.parts import parts
from benchmarks.reference import KEY_FRAMES, Reference, passes
from benchmarks.walks import Ours
from sa2va_tools.model.device import (
    Pace,
    choose_attention_dtype,
    choose_dtype,
    choose_encoder_dtype,
    choose_pace,
)
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.memory_product import multiply_memories_in


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
            seconds = fair_seconds(lambda: reference.masks(frames.pictures, embeddings), device)
            assert reference.passes_of_last == passes(len(frames), objects)
            self._gone[len(frames), objects] = seconds, torch.stack(reference.logits)
        return self._gone[len(frames), objects]


def compare(
    published: Published,
    frames: Frames,
    objects: int,
    *,
    pace: Pace,
    whole: bool = True,
    grounding: Sam2Grounding | None = None,
) -> dict[str, float]:
    """Ratio of the reference's time to ours. Unless `whole`, of several objects one goes the published way
    and its time is multiplied, for there each goes by itself. `grounding` is for ours, where it is not the
    same (another number format)."""
    grounding = grounding or published.grounding
    embeddings, ours = embeddings_of(grounding, objects), Ours(grounding, pace)
    device = embeddings.device
    measured = objects if whole or len(frames) == 1 else 1
    theirs_s, other = published.seconds_and_logits(frames, measured)
    ours_s = fair_seconds(lambda: ours.masks(frames, embeddings), device)
    assert ours.passes_of_last == len(frames)
    one = ours.logits()[:measured]
    same = float(((one > 0) == (other > 0)).float().mean())
    assert same > 0.999 or grounding is not published.grounding, "the masks differ at equal precision"
    return {
        "frames": len(frames),
        "objects": objects,
        "reference_s": round(theirs_s * objects / measured, 3),
        "reference_measured": measured,
        "ours_s": round(ours_s, 3),
        "ratio": round(theirs_s * objects / measured / ours_s, 3),
        "reference_passes": passes(len(frames), objects),
        "our_passes": ours.passes_of_last,
        "equal_pixels": round(same, 6),
        "logit_difference": round(float((one - other).abs().max()), 6),
    }


def at_default_precision(
    size: Size, published: Published, frames: Sequence[int], *, pace: Pace, whole: bool
) -> list[dict[str, Any]]:
    """In the number formats that the engine chooses by itself, beside the published way in those of its
    modules: bfloat16 on CUDA, float32 elsewhere. Empty where `published` has those already."""
    device, small = published.grounding.no_object_pointer.device, size == "nano"
    base = choose_dtype("auto", device, small=small)
    encoder = choose_encoder_dtype("auto", base, "auto", device, small=small)
    attention = choose_attention_dtype("auto", base, "auto", device, small=small)
    if base == encoder == attention == published.grounding.no_object_pointer.dtype:
        return []
    if base != published.grounding.no_object_pointer.dtype:
        published = Published(grounding_of(size, device, base))
    ours = copy.deepcopy(published.grounding)
    in_format(ours.image_encoder, encoder)
    multiply_memories_in(attention, ours)
    formats = {
        "reference_dtype": _word(base),
        "our_dtype": _word(base),
        "our_encoder_dtype": _word(encoder),
        "our_attention_dtype": _word(attention),
    }
    return [
        formats | compare(published, Frames(count), objects, pace=pace, whole=whole, grounding=ours)
        for count in frames
        for objects in (1, 5)
    ]


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def measure(
    size: Size,
    device: torch.device,
    dtype: str,
    *,
    frames: Sequence[int],
    memory_frames: Sequence[int] = (),
) -> dict[str, Any]:
    """Time, memory and masks of both ways, for clips of these numbers of `frames`; for the first of them, the
    engine's time beside its parts."""
    small = size == "nano"
    grounding, pace = grounding_of(size, device, getattr(torch, dtype)), choose_pace(device, small=small)
    # What is only made once: the large encoder takes minutes on a CPU, so as few frames as go all ways.
    Ours(grounding, pace).masks(Frames(KEY_FRAMES + 1 if small else 2), embeddings_of(grounding, 1))
    whole = small or device.type == "cuda"
    published = Published(grounding)
    compared = [
        compare(published, Frames(count), objects, pace=pace, whole=whole)
        for count, objects in (*((count, objects) for count in frames for objects in (1, 5)), (1, 3))
    ]
    return {
        "size": size,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "batch": pace.batch,
        "torch": torch.__version__,
        "against_the_published_procedure": compared,
        "at_default_precision": at_default_precision(size, published, frames, pace=pace, whole=whole),
        "memory": [
            both_ways(size, device, dtype, count, objects)
            for count in memory_frames
            for objects in ((1, 5) if whole else (1,))
        ],
        "against_the_sum_of_parts": [
            parts(grounding, Frames(frames[0]), int(row["objects"]), pace=pace, wall_s=row["ours_s"])
            for row in compared
            if row["frames"] == frames[0] > KEY_FRAMES
        ],
    }


def main() -> None:
    """`python -m benchmarks.propagation --size hiera-l`: one JSON document on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("nano", "hiera-l"), default="nano")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--frames", type=int, nargs="+", default=(12,))
    parser.add_argument("--memory-frames", type=int, nargs="*", help="default: as many as --frames")
    wish = parser.parse_args()
    memory = wish.frames if wish.memory_frames is None else wish.memory_frames
    device = torch.device(wish.device)
    with as_the_engine(device, small=wish.size == "nano"):
        report = measure(wish.size, device, wish.dtype, frames=wish.frames, memory_frames=memory)
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
