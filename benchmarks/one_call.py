"""One segment call through the public `Engine`, in a process that has done nothing else: time and memory."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.clips import EXPRESSIONS
from benchmarks.measuring import memory_peak, process_peak, run_alone
from sa2va_tools import Engine, Settings
from sa2va_tools.model.device import choose_device
from sa2va_tools.testing import synthetic_clip


def segmented(video: Path, expressions: int, device: str) -> dict[str, Any]:
    """Seconds, frames and peaks of that many expressions in one call, measured in a process of its own."""
    return run_alone("benchmarks.one_call", video, f"--expressions={expressions}", f"--device={device}")


def measure(video: Path, expressions: int, device: str, folder: Path) -> dict[str, Any]:
    """The same in this process; `peak_bytes` is then of all that it has ever held."""
    engine = Engine.load("nano", settings=Settings(store_dir=folder / "store", device=device))
    engine.segment(synthetic_clip(folder / "warm.mp4"), EXPRESSIONS[0])  # loads the model
    began = time.perf_counter()
    result = engine.segment(video, EXPRESSIONS[:expressions])
    seconds = time.perf_counter() - began
    return {
        "frames": result.provenance.frames,
        "objects": sum(item.track is not None for item in result.objects),
        "seconds": round(seconds, 3),
        "frames_per_s": round(result.provenance.frames / seconds, 2),
        "peak_bytes": memory_peak(choose_device(device)),
        "process_peak_bytes": process_peak(),
        "timings_s": dict(result.provenance.timings_s),
    }


def main() -> None:
    """`python -m benchmarks.one_call clip.mp4`: one JSON document on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--expressions", type=int, default=1, choices=range(1, len(EXPRESSIONS) + 1))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        json.dump(measure(wish.video, wish.expressions, wish.device, Path(folder)), sys.stdout)


if __name__ == "__main__":
    main()
