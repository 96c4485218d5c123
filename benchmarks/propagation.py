"""The engine's tracking compared to the published procedure, and to the sum of its own parts."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.engine_tracking import EngineTracking
from benchmarks.machine import device_name
from benchmarks.measuring import default_device, engine_conditions, measure_fairly, print_json
from benchmarks.models import MemoryClip, Size, apply_precision, build_sam2, draw_embeddings, dtype_name
from benchmarks.parts import compare_with_parts
from benchmarks.peak_memory import compare_peak_memory
from benchmarks.reference import PROMPT_FRAMES, PublishedTracking, count_passes
from sa2va_tools.model.device.memory_policy import BatchSizes
from sa2va_tools.model.device.placement import Precision, choose_batch_sizes, choose_precision
from sa2va_tools.model.sam2.modules import Sam2

_LEAST_EQUAL_PIXELS = 0.999
"""Both ways give the same masks if they use the same number formats; logits next to zero may round either
way."""


class Published:
    """The published way through clips. Each is measured once."""

    def __init__(self, sam2: Sam2) -> None:
        self.sam2 = sam2
        self._measured: dict[tuple[int, int], tuple[float, Tensor]] = {}

    def measure(self, clip: MemoryClip, objects: int) -> tuple[float, Tensor]:
        """Seconds, and (objects, frames, 4s, 4s) logits."""
        key = (len(clip), objects)
        if key not in self._measured:
            tracking = PublishedTracking(self.sam2)
            embeddings = draw_embeddings(self.sam2, objects)
            seconds = measure_fairly(lambda: tracking.track(clip.pictures, embeddings), embeddings.device)
            assert tracking.encoder_passes == count_passes(len(clip), objects)
            self._measured[key] = seconds, tracking.logits
        return self._measured[key]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How clips go both ways."""

    published: Published
    sizes: BatchSizes
    measures_all_objects: bool = True
    """Otherwise one of several objects goes the published way and its time is multiplied: there, objects go
    one after another."""

    def compare(self, clip: MemoryClip, objects: int, sam2: Sam2 | None = None) -> dict[str, float]:
        """The published time over ours. `sam2` is for ours if it has other number formats."""
        modules = self.published.sam2 if sam2 is None else sam2
        embeddings = draw_embeddings(modules, objects)
        measured = objects if self.measures_all_objects or len(clip) == 1 else 1
        published_s, published_logits = self.published.measure(clip, measured)
        published_s *= objects / measured
        tracking = EngineTracking(modules, self.sizes, records=True)
        ours_s = measure_fairly(lambda: tracking.track(clip, embeddings), embeddings.device)
        assert tracking.encoder_passes == len(clip)
        logits = tracking.logits[:measured]
        equal = float(((logits > 0) == (published_logits > 0)).float().mean())
        assert equal > _LEAST_EQUAL_PIXELS or sam2 is not None, "the masks differ at equal precision"
        return {
            "frames": len(clip),
            "objects": objects,
            "reference_s": round(published_s, 3),
            "reference_measured": measured,
            "ours_s": round(ours_s, 3),
            "ratio": round(published_s / ours_s, 3),
            "reference_passes": count_passes(len(clip), objects),
            "our_passes": tracking.encoder_passes,
            "equal_pixels": round(equal, 6),
            "logit_difference": round(float((logits - published_logits).abs().max()), 6),
        }


def compare_at_precision(
    size: Size, comparison: Comparison, frames: Sequence[int], precision: Precision
) -> list[dict[str, Any]]:
    """Ours with `precision`, the published way with that of the modules. Empty if `comparison` has it
    already."""
    sam2 = comparison.published.sam2
    like = sam2.no_object_pointer
    if precision == Precision(like.dtype, like.dtype, like.dtype):
        return []
    if precision.modules != like.dtype:
        published = Published(build_sam2(size, like.device, precision.modules))
        comparison = Comparison(published, comparison.sizes, comparison.measures_all_objects)
    ours = apply_precision(copy.deepcopy(comparison.published.sam2), precision)
    formats = {
        "reference_dtype": dtype_name(precision.modules),
        "our_dtype": dtype_name(precision.modules),
        "our_encoder_dtype": dtype_name(precision.image_encoder),
        "our_attention_dtype": dtype_name(precision.memory_attention),
    }
    return [
        formats | comparison.compare(MemoryClip(count), objects, ours)
        for count in frames
        for objects in (1, 5)
    ]


def measure_propagation(
    size: Size,
    device: torch.device,
    dtype: str,
    *,
    frames: Sequence[int],
    memory_frames: Sequence[int] = (),
) -> dict[str, Any]:
    """Time, memory and masks of both ways for clips of these numbers of `frames`; for the first of them, the
    engine's time compared to its parts."""
    small = size == "nano"
    is_fast = small or device.type == "cuda"
    sam2 = build_sam2(size, device, getattr(torch, dtype))
    sizes = choose_batch_sizes(device, small=small)
    # What is computed only once. A frame of the large encoder takes many seconds on a CPU: only two there.
    warm_up = MemoryClip(PROMPT_FRAMES + 1 if is_fast else 2)
    EngineTracking(sam2, sizes).track(warm_up, draw_embeddings(sam2, 1))
    comparison = Comparison(Published(sam2), sizes, measures_all_objects=is_fast)
    cases = [*((count, objects) for count in frames for objects in (1, 5)), (1, 3)]
    rows = [comparison.compare(MemoryClip(count), objects) for count, objects in cases]
    precision = choose_precision("auto", device, small=small)
    return {
        "size": size,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "batch": sizes.frames,
        "torch": torch.__version__,
        "against_the_published_procedure": rows,
        "at_default_precision": compare_at_precision(size, comparison, frames, precision),
        "memory": [
            compare_peak_memory(size, device, dtype, count, objects)
            for count in memory_frames
            for objects in ((1, 5) if is_fast else (1,))
        ],
        "against_the_sum_of_parts": [
            _compare_with_parts(comparison, row) for row in rows if row["frames"] == frames[0] > PROMPT_FRAMES
        ],
    }


def _compare_with_parts(comparison: Comparison, row: dict[str, float]) -> dict[str, float]:
    clip = MemoryClip(int(row["frames"]))
    sam2, objects = comparison.published.sam2, int(row["objects"])
    return compare_with_parts(sam2, clip, objects, sizes=comparison.sizes, wall_s=row["ours_s"])


def main() -> None:
    """`python -m benchmarks.propagation --size hiera-l`: prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("nano", "hiera-l"), default="nano")
    parser.add_argument("--device", default=default_device())
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--frames", type=int, nargs="+", default=(12,))
    parser.add_argument("--memory-frames", type=int, nargs="*", help="default: as many as --frames")
    arguments = parser.parse_args()
    given = arguments.memory_frames
    memory_frames = arguments.frames if given is None else given
    device = torch.device(arguments.device)
    with engine_conditions(device, small=arguments.size == "nano"):
        result = measure_propagation(
            arguments.size, device, arguments.dtype, frames=arguments.frames, memory_frames=memory_frames
        )
    print_json(result)


if __name__ == "__main__":
    main()
