"""How the nano's time and memory grow with frames, objects and questions, through the public `Engine`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.clips import EXPRESSIONS, shapes_clip
from benchmarks.figure import draw
from benchmarks.measuring import MIB
from benchmarks.one_call import segmented
from benchmarks.overhead import tool_overhead
from benchmarks.report import scaling_tables
from sa2va_tools import Engine, Settings
from sa2va_tools.testing import synthetic_clip


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the curves go."""

    frames: tuple[int, ...] = (100, 500, 2000)
    many: int = 8
    """Objects of the second curve against frames."""
    objects: tuple[int, ...] = (1, 2, 4, 8, 12, 16)
    questions: int = 8
    clip_frames: int = 48
    """Of the clip that the other curves are about."""
    call_frames: int = 8
    """Of the clip that shows what the tool layer adds: short, for noise grows with the call."""
    repeats: int = 15


QUICK = Extent(
    frames=(20, 40), many=3, objects=(1, 2, 4), questions=3, clip_frames=12, call_frames=4, repeats=3
)


def scaling(extent: Extent, device: str) -> dict[str, Any]:
    """All curves; `clip_frames` tells of which clip objects and questions are."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = shapes_clip(folder, extent.clip_frames)
        engine = _engine(folder, "objects", device, None)
        return {
            "clip_frames": extent.clip_frames,
            "frames": against_frames(extent, folder, device),
            "objects": against_objects(extent, engine, clip),
            "questions": {
                "kept": against_questions(extent, _engine(folder, "kept", device, None), clip),
                "nothing_kept": against_questions(extent, _engine(folder, "nothing", device, 0), clip),
            },
            "tool_layer": tool_overhead(
                engine, shapes_clip(folder, extent.call_frames), repeats=extent.repeats
            ),
        }


def against_frames(extent: Extent, folder: Path, device: str) -> list[dict[str, Any]]:
    """One process per point, so that no point's memory shows in another's peak."""
    points = []
    for count in extent.frames:
        video = shapes_clip(folder, count)
        for objects in (1, extent.many):
            made = segmented(video, objects, device)
            points.append(
                {
                    "frames": made["frames"],
                    "objects": objects,
                    "seconds": made["seconds"],
                    "frames_per_s": made["frames_per_s"],
                    "peak_mib": round(made["peak_bytes"] / MIB, 1),
                }
            )
    return points


def against_objects(extent: Extent, engine: Engine, clip: Path) -> list[dict[str, Any]]:
    """Expressions in one call, and, once each has been asked alone, the sum of those calls."""
    engine.segment(clip, EXPRESSIONS[0])
    points, alone = [], 0.0
    for count in range(1, max(extent.objects) + 1):
        alone += _seconds(engine, clip, EXPRESSIONS[count - 1 : count])
        if count in extent.objects:
            together = _seconds(engine, clip, EXPRESSIONS[:count])
            points.append({"objects": count, "seconds": round(together, 3), "one_by_one_s": round(alone, 3)})
    return points


def against_questions(extent: Extent, engine: Engine, clip: Path) -> list[dict[str, Any]]:
    """Calls one after another about the same file, each for another expression; the parts of each are the
    engine's own timings."""
    # Loads the model, and sees nothing of the clip.
    engine.segment(synthetic_clip(clip.with_name("warm.mp4")), EXPRESSIONS[0])
    points = []
    for number, expression in enumerate(EXPRESSIONS[: extent.questions], start=1):
        began = time.perf_counter()
        parts = engine.segment(clip, expression).provenance.timings_s
        took = time.perf_counter() - began
        points.append({"question": number, "seconds": round(took, 3), **parts})
    return points


def _seconds(engine: Engine, clip: Path, expressions: tuple[str, ...]) -> float:
    began = time.perf_counter()
    engine.segment(clip, expressions)
    return time.perf_counter() - began


def _engine(folder: Path, name: str, device: str, cache_bytes: int | None) -> Engine:
    settings = Settings(store_dir=folder / name, device=device, cache_bytes=cache_bytes)
    return Engine.load("nano", settings=settings)


def main() -> None:
    """`python -m benchmarks.scaling --quick --png curves.png`: one JSON document on stdout, the tables on
    stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short curves")
    parser.add_argument("--png", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    wish = parser.parse_args()
    made = scaling(QUICK if wish.quick else Extent(), wish.device)
    if wish.png is not None:
        draw(made, wish.png)
    print("\n\n".join(scaling_tables(made)), file=sys.stderr)
    json.dump(made, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
