"""SAM-2 on the device with random weights: its steps, clips compared to the published procedure, whole calls
from a file, and memory over the length of a clip."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.device.part import Part
from benchmarks.device.sam2_clips import compare_to_published, measure_files, measure_memory, measure_use
from benchmarks.device.sam2_steps import (
    measure_compiled_encoder,
    measure_encoder,
    measure_limits,
    measure_tracked_frame,
)
from benchmarks.measuring import engine_conditions
from benchmarks.models import Size, build_sam2
from sa2va_tools.model.device.placement import choose_batch_sizes


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    size: Size = "hiera-l"
    objects: tuple[int, ...] = (1, 5, 16)
    batches: tuple[int, ...] = (1, 8)
    compared_frames: int = 64
    file_frames: int = 128
    memory_frames: tuple[int, ...] = (100, 1000)


QUICK = Extent(objects=(1, 5), compared_frames=24, file_frames=48, memory_frames=(50, 500))
REHEARSAL = Extent("nano", (1, 2), (1, 2), compared_frames=7, file_frames=7, memory_frames=(10, 20))


def main() -> int:
    """`python -m benchmarks.device.speed --out DIR`."""
    part = Part.from_command_line("speed", __doc__)
    extent = REHEARSAL if part.rehearse else QUICK if part.quick else Extent()
    small = extent.size == "nano"
    sam2 = build_sam2(extent.size, part.device, torch.bfloat16 if part.on_gpu else torch.float32)
    sizes = choose_batch_sizes(part.device, small=small)
    few = extent.objects[:2]
    with engine_conditions(part.device, small=small):
        part.step("limits", partial(measure_limits, part.device))
        part.step("encoder", partial(measure_encoder, sam2, extent.batches))
        for objects in extent.objects:
            part.step(f"tracked frame, {objects} objects", partial(measure_tracked_frame, sam2, objects))
        part.step(
            "published procedure", partial(compare_to_published, sam2, sizes, extent.compared_frames, few)
        )
        part.step("files", partial(measure_files, sam2, sizes, extent.file_frames, extent.objects))
        part.step("memory", partial(measure_memory, sam2, sizes, extent.memory_frames))
        if part.on_gpu and not part.quick:
            part.step("use of the device", partial(measure_use, sam2, sizes, few))
            part.step("compiled encoder", partial(measure_compiled_encoder, sam2, sizes.frames))
    return part.finish()


if __name__ == "__main__":
    sys.exit(main())
