"""A training step of each stage of the nano on the device, with whole batches."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.device.part import Part
from sa2va_tools.nano.course.stages import STAGES, NanoRecipe, TrainingJob, run_all
from sa2va_tools.run import Progress, Run

Row = dict[str, Any]


def measure_training(device: torch.device, *, steps: int, batch_share: float) -> list[Row]:
    """Median seconds of a step of each stage; the first step, which loads kernels, does not count."""
    times: dict[str, list[float]] = defaultdict(list)

    def note(progress: Progress) -> None:  # comes after each step, when its loss is known on the host
        times[progress.stage].append(time.perf_counter())

    counts: Any = {f"{stage}_steps": steps for stage in STAGES}
    recipe = NanoRecipe(workers=1, batch_share=batch_share, **counts)
    with tempfile.TemporaryDirectory() as folder:
        run_all(TrainingJob(Path(folder), recipe, device), Run(note))
    return [
        {"stage": stage, "step_s": round(statistics.median(b - a for a, b in pairwise(moments)), 3)}
        for stage, moments in times.items()
    ]


def main() -> int:
    """`python -m benchmarks.device.training --out DIR`."""
    part = Part.from_command_line("training", __doc__)
    steps, batch_share = (3, 0.01) if part.rehearse else (4, 1.0)
    part.step("training", partial(measure_training, part.device, steps=steps, batch_share=batch_share))
    return part.finish()


if __name__ == "__main__":
    sys.exit(main())
