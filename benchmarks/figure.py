"""The scaling curves as one picture of four panels."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

from sa2va_tools.atomic import write_bytes
from sa2va_tools.training.curves import figure_class

_INCHES = (11.0, 7.5)


def draw(scaling: dict[str, Any], png: Path) -> None:
    """Write the PNG. MissingExtraError without matplotlib."""
    figure = figure_class()(figsize=_INCHES, layout="constrained")
    (time, memory), (objects, questions) = figure.subplots(2, 2)
    by_objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for point in scaling["frames"]:
        by_objects[point["objects"]].append(point)
    for count, points in by_objects.items():
        label = "1 object" if count == 1 else f"{count} objects"
        frames = [point["frames"] for point in points]
        _line(time, frames, [point["seconds"] for point in points], label)
        _line(memory, frames, [point["peak_mib"] for point in points], label)
    _dress(time, "Time against length", "frames", "seconds")
    _dress(memory, "Peak memory against length", "frames", "MiB")
    points, clip = scaling["objects"], f"{scaling['clip_frames']} frames"
    counts = [point["objects"] for point in points]
    _line(objects, counts, [point["seconds"] for point in points], "in one call")
    _line(objects, counts, [point["one_by_one_s"] for point in points], "in a call each")
    _dress(objects, f"Time against objects ({clip})", "objects", "seconds")
    for name, label in (("kept", "as shipped"), ("nothing_kept", "nothing kept")):
        asked = scaling["questions"][name]
        numbers = [point["question"] for point in asked]
        _line(questions, numbers, [point["seconds"] for point in asked], label)
    _dress(questions, f"Time of each call about one file ({clip})", "call", "seconds")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    write_bytes(png, picture.getvalue())


def _line(axes: Any, x: list[int], y: list[float], label: str) -> None:
    axes.plot(x, y, marker="o", markersize=4, label=label)


def _dress(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(left=0)
    highest = max((max(line.get_ydata()) for line in axes.get_lines() if len(line.get_ydata())), default=1.0)
    axes.set_ylim(0, 1.2 * highest)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
