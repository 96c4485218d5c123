"""How much memory one way through a clip takes, in a process that has gone no other way."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import Any

import torch

from benchmarks.measuring import MIB, as_the_engine, growth, run_alone
from benchmarks.models import Frames, embeddings_of, grounding_of
from benchmarks.reference import KEY_FRAMES, Reference
from sa2va_tools.model.device import Pace, choose_pace
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.propagation import Propagator


def both_ways(size: str, device: torch.device, dtype: str, frames: int, objects: int) -> dict[str, Any]:
    """Growth of the peak beside the weights and the clip, which both ways share, each in its own process."""
    words = (
        f"--size={size}",
        f"--device={device}",
        f"--dtype={dtype}",
        f"--frames={frames}",
        f"--objects={objects}",
    )
    theirs, ours = (run_alone("benchmarks.one_way", way, *words)["growth"] for way in ("reference", "ours"))
    return {
        "frames": frames,
        "objects": objects,
        "reference_mib": round(theirs / MIB, 1),
        "our_mib": round(ours / MIB, 1),
        "ratio": round(theirs / max(ours, 1), 2),
    }


@torch.inference_mode()
def walk(way: str, frames: Frames, embeddings: torch.Tensor, pace: Pace, grounding: Sam2Grounding) -> None:
    """Masks of the whole clip; the engine's way gives each frame away, the published one keeps all."""
    if way == "reference":
        Reference(grounding).masks(frames.pictures, embeddings)
        return
    walker = Propagator(grounding, gate=False, pace=pace)
    for _ in walker.language(frames, range(min(KEY_FRAMES, len(frames))), embeddings):
        pass


def main() -> None:
    """`python -m benchmarks.one_way ours --frames 12`: one JSON document on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("reference", "ours"))
    parser.add_argument("--size", choices=("nano", "hiera-l"), default="nano")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--objects", type=int, default=1)
    wish = parser.parse_args()
    device = torch.device(wish.device)
    small = wish.size == "nano"
    grounding = grounding_of(wish.size, device, getattr(torch, wish.dtype))
    embeddings = embeddings_of(grounding, wish.objects)
    frames, pace = Frames(wish.frames), choose_pace(device, small=small)
    with as_the_engine(device, small=small):
        walk(wish.way, Frames(2), embeddings[:1], pace, grounding)  # what is only made once
        work = partial(walk, wish.way, frames, embeddings, pace, grounding)
        json.dump({"way": wish.way, "growth": growth(work, device)}, sys.stdout)


if __name__ == "__main__":
    main()
