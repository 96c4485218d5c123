"""How the nano's time and memory grow with frames, objects and calls, through the public `Engine`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clips import EXPRESSIONS, write_shapes_clip
from benchmarks.figure import draw_scaling
from benchmarks.measuring import MIB, default_device, print_json
from benchmarks.one_call import measure_call_alone
from benchmarks.overhead import measure_tool_overhead
from benchmarks.tables import scaling_tables
from sa2va_tools import Engine, load_engine
from sa2va_tools.testing import synthetic_clip


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the curves go."""

    frames: tuple[int, ...] = (100, 500, 2000)
    many: int = 8
    """Objects of the second curve over frames."""
    objects: tuple[int, ...] = (1, 2, 4, 8, 12, 16)
    calls: int = 8
    clip_frames: int = 48
    """Of the clip that the other curves are about."""
    tool_frames: int = 8
    """Of the clip that shows what the tool layer adds: short, because noise grows with the call."""
    repeats: int = 15


QUICK = Extent(frames=(20, 40), many=3, objects=(1, 2, 4), calls=3, clip_frames=12, tool_frames=4, repeats=3)


def measure_scaling(extent: Extent, device: str) -> dict[str, Any]:
    """All curves."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = write_shapes_clip(folder, extent.clip_frames)
        tool_clip = write_shapes_clip(folder, extent.tool_frames)
        engine = load_engine("nano", store_dir=folder / "objects", device=device, reuse_results=False)
        with_cache = load_engine("nano", store_dir=folder / "cache", device=device, reuse_results=False)
        without_cache = load_engine(
            "nano", store_dir=folder / "none", device=device, cache_bytes=0, reuse_results=False
        )
        return {
            "clip_frames": extent.clip_frames,
            "frames": measure_frames(extent, folder, device),
            "objects": measure_objects(extent, engine, clip),
            "calls": {
                "cached": measure_calls(extent, with_cache, clip),
                "not_cached": measure_calls(extent, without_cache, clip),
            },
            "tool_layer": {
                "frames": extent.tool_frames,
                **measure_tool_overhead(engine, tool_clip, repeats=extent.repeats),
            },
        }


def measure_frames(extent: Extent, folder: Path, device: str) -> list[dict[str, Any]]:
    """One process for each point, so that no point's memory shows in the peak of another."""
    points = []
    for count in extent.frames:
        video = write_shapes_clip(folder, count)
        for objects in (1, extent.many):
            call = measure_call_alone(video, objects, device)
            points.append(
                {
                    "frames": call["frames"],
                    "objects": objects,
                    "seconds": call["seconds"],
                    "frames_per_s": call["frames_per_s"],
                    "peak_mib": round(call["peak_bytes"] / MIB, 1),
                }
            )
    return points


def measure_objects(extent: Extent, engine: Engine, clip: Path) -> list[dict[str, Any]]:
    """Expressions in one call, and the sum of a call for each of them."""
    engine.segment(clip, EXPRESSIONS[0])
    points = []
    one_by_one = 0.0
    for count in range(1, max(extent.objects) + 1):
        one_by_one += _measure_call(engine, clip, EXPRESSIONS[count - 1 : count])
        if count in extent.objects:
            together = _measure_call(engine, clip, EXPRESSIONS[:count])
            points.append(
                {"objects": count, "seconds": round(together, 3), "one_by_one_s": round(one_by_one, 3)}
            )
    return points


def measure_calls(extent: Extent, engine: Engine, clip: Path) -> list[dict[str, Any]]:
    """Calls one after another about the same file, each with another expression, with the engine's own
    timings of their stages."""
    # Loads the model without encoding the clip.
    engine.segment(synthetic_clip(clip.with_name("warm.mp4")), EXPRESSIONS[0])
    points = []
    for number, expression in enumerate(EXPRESSIONS[: extent.calls], start=1):
        began = time.perf_counter()
        stages = engine.segment(clip, expression).provenance.timings_s
        points.append({"call": number, "seconds": round(time.perf_counter() - began, 3), **stages})
    return points


def _measure_call(engine: Engine, clip: Path, expressions: tuple[str, ...]) -> float:
    began = time.perf_counter()
    engine.segment(clip, expressions)
    return time.perf_counter() - began


def main() -> None:
    """`python -m benchmarks.scaling --quick --png curves.png`: prints JSON, and tables on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short curves")
    parser.add_argument("--png", type=Path)
    parser.add_argument("--device", default=default_device())
    arguments = parser.parse_args()
    result = measure_scaling(QUICK if arguments.quick else Extent(), arguments.device)
    if arguments.png is not None:
        draw_scaling(result, arguments.png)
    print("\n\n".join(scaling_tables(result)), file=sys.stderr)
    print_json(result)


if __name__ == "__main__":
    main()
