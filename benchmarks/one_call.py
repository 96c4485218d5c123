"""Time and memory of one segment call through the public `Engine`, in a process that did nothing else."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.clips import EXPRESSIONS
from benchmarks.measuring import (
    default_device,
    print_json,
    read_memory_peak,
    read_process_peak,
    run_module,
)
from sa2va_tools import load_engine
from sa2va_tools.model.device.placement import choose_device
from sa2va_tools.testing import synthetic_clip


def measure_call_alone(video: Path, expressions: int, device: str) -> dict[str, Any]:
    """Seconds, frames and peaks of one call with that many expressions, in a process of its own."""
    return run_module("benchmarks.one_call", video, f"--expressions={expressions}", f"--device={device}")


def measure_call(video: Path, expressions: int, device: str, folder: Path) -> dict[str, Any]:
    """The same in this process; `peak_bytes` includes everything that the process held before."""
    with load_engine("nano", store_dir=folder / "store", device=device, reuse_results=False) as engine:
        engine.segment(synthetic_clip(folder / "warm.mp4"), EXPRESSIONS[0])  # loads the model
        began = time.perf_counter()
        result = engine.segment(video, EXPRESSIONS[:expressions])
        seconds = time.perf_counter() - began
    provenance = result.provenance
    return {
        "frames": provenance.frames,
        "objects": sum(item.found for item in result.objects),
        "seconds": round(seconds, 3),
        "frames_per_s": round(provenance.frames / seconds, 2),
        "peak_bytes": read_memory_peak(choose_device(device)),
        "process_peak_bytes": read_process_peak(),
        "timings_s": dict(provenance.timings_s),
    }


def main() -> None:
    """`python -m benchmarks.one_call clip.mp4`: prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--expressions", type=int, default=1, choices=range(1, len(EXPRESSIONS) + 1))
    parser.add_argument("--device", default=default_device())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_json(measure_call(arguments.video, arguments.expressions, arguments.device, Path(folder)))


if __name__ == "__main__":
    main()
