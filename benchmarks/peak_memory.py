"""How much memory it takes to track a clip, in a process that does nothing else."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.engine_tracking import EngineTracking
from benchmarks.measuring import MIB, engine_conditions, measure_growth, print_json, run_module
from benchmarks.models import MemoryClip, build_sam2, draw_embeddings
from benchmarks.reference import PublishedTracking
from sa2va_tools.model.device.memory_policy import BatchSizes
from sa2va_tools.model.device.placement import choose_batch_sizes
from sa2va_tools.model.sam2.modules import Sam2


def compare_peak_memory(
    size: str, device: torch.device, dtype: str, frames: int, objects: int
) -> dict[str, Any]:
    """How far the peak rises above weights and clip, which both ways share; each in its own process."""
    options = (
        f"--size={size}",
        f"--device={device}",
        f"--dtype={dtype}",
        f"--frames={frames}",
        f"--objects={objects}",
    )
    published = run_module("benchmarks.peak_memory", "published", *options)["growth"]
    ours = run_module("benchmarks.peak_memory", "ours", *options)["growth"]
    return {
        "frames": frames,
        "objects": objects,
        "reference_mib": round(published / MIB, 1),
        "our_mib": round(ours / MIB, 1),
        "ratio": round(published / max(ours, 1), 2),
    }


def track_clip(way: str, clip: MemoryClip, embeddings: Tensor, sizes: BatchSizes, sam2: Sam2) -> None:
    """Masks of the whole clip. The engine hands on each frame, the published procedure holds all of them."""
    if way == "published":
        PublishedTracking(sam2).track(clip.pictures, embeddings)
    else:
        EngineTracking(sam2, sizes).track(clip, embeddings)


def main() -> None:
    """`python -m benchmarks.peak_memory ours --frames 12`: prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("published", "ours"))
    parser.add_argument("--size", choices=("nano", "hiera-l"), default="nano")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--objects", type=int, default=1)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    small = arguments.size == "nano"
    sam2 = build_sam2(arguments.size, device, getattr(torch, arguments.dtype))
    sizes = choose_batch_sizes(device, small=small)
    embeddings = draw_embeddings(sam2, arguments.objects)
    clip = MemoryClip(arguments.frames)
    with engine_conditions(device, small=small):
        track_clip(arguments.way, MemoryClip(2), embeddings[:1], sizes, sam2)  # what is computed only once
        track = partial(track_clip, arguments.way, clip, embeddings, sizes, sam2)
        growth = measure_growth(track, device)
    print_json({"way": arguments.way, "growth": growth})


if __name__ == "__main__":
    main()
