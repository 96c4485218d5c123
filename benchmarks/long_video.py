"""Ten minutes of 720p H.264: one expression segmented by the nano, in a process of its own."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.clips import FPS, HD_WH, write_shapes_clip
from benchmarks.measuring import MIB, default_device, print_json
from benchmarks.one_call import measure_call_alone


def measure_long_video(minutes: float, device: str) -> dict[str, Any]:
    """Time, and the peak of the whole process with its libraries and weights."""
    with tempfile.TemporaryDirectory() as folder:
        video = write_shapes_clip(Path(folder), max(2, round(minutes * 60 * FPS)), HD_WH)
        file_bytes = video.stat().st_size
        call = measure_call_alone(video, 1, device)
    return {
        "minutes": minutes,
        "frames": call["frames"],
        "file_mib": round(file_bytes / MIB, 1),
        "seconds": call["seconds"],
        "frames_per_s": call["frames_per_s"],
        "speed": round(60 * minutes / call["seconds"], 2),
        "process_peak_mib": round(call["process_peak_bytes"] / MIB),
        "peak_mib": round(call["peak_bytes"] / MIB),
    }


def main() -> None:
    """`python -m benchmarks.long_video --minutes 10`: prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--device", default=default_device())
    arguments = parser.parse_args()
    print_json(measure_long_video(arguments.minutes, arguments.device))


if __name__ == "__main__":
    main()
