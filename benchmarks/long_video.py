"""Ten minutes of 720p H.264: one expression segmented by the nano, in a process of its own."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.clips import FPS, HD_WH, shapes_clip
from benchmarks.measuring import MIB
from benchmarks.one_call import segmented


def long_video(minutes: float, device: str) -> dict[str, Any]:
    """Seconds, pace and the peak of the whole process, libraries and weights included."""
    with tempfile.TemporaryDirectory() as folder:
        video = shapes_clip(Path(folder), max(2, round(minutes * 60 * FPS)), HD_WH)
        size = video.stat().st_size
        made = segmented(video, 1, device)
    return {
        "minutes": minutes,
        "frames": made["frames"],
        "file_mib": round(size / MIB, 1),
        "seconds": made["seconds"],
        "frames_per_s": made["frames_per_s"],
        "pace": round(60 * minutes / made["seconds"], 2),
        "process_peak_mib": round(made["process_peak_bytes"] / MIB),
        "peak_mib": round(made["peak_bytes"] / MIB),
    }


def main() -> None:
    """`python -m benchmarks.long_video --minutes 10`: one JSON document on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    wish = parser.parse_args()
    json.dump(long_video(wish.minutes, wish.device), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
