"""The scaling curves as one picture with four panels."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

from sa2va_tools.atomic import write_bytes
from sa2va_tools.training.stage_log import load_figure_class

_INCHES = (11.0, 7.5)


def draw_scaling(scaling: dict[str, Any], png: Path) -> None:
    """Write the PNG. MissingExtraError without matplotlib."""
    figure = load_figure_class()(figsize=_INCHES, layout="constrained")
    (time, memory), (objects, calls) = figure.subplots(2, 2)
    _draw_frames(time, memory, scaling["frames"])
    clip = f"{scaling['clip_frames']} frames"
    _draw_objects(objects, scaling["objects"])
    _label(objects, f"Time over objects ({clip})", "objects", "seconds")
    _draw_calls(calls, scaling["calls"])
    _label(calls, f"Time of each call about one file ({clip})", "call", "seconds")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    write_bytes(png, picture.getvalue())


def _draw_frames(time: Any, memory: Any, points: list[dict[str, Any]]) -> None:
    by_objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for point in points:
        by_objects[point["objects"]].append(point)
    for count, curve in by_objects.items():
        label = "1 object" if count == 1 else f"{count} objects"
        frames = _column(curve, "frames")
        _draw_line(time, frames, _column(curve, "seconds"), label)
        _draw_line(memory, frames, _column(curve, "peak_mib"), label)
    _label(time, "Time over length", "frames", "seconds")
    _label(memory, "Peak memory over length", "frames", "MiB")


def _draw_objects(axes: Any, points: list[dict[str, Any]]) -> None:
    counts = _column(points, "objects")
    _draw_line(axes, counts, _column(points, "seconds"), "in one call")
    _draw_line(axes, counts, _column(points, "one_by_one_s"), "in a call each")


def _draw_calls(axes: Any, calls: dict[str, list[dict[str, Any]]]) -> None:
    for name, label in (("cached", "with the cache"), ("not_cached", "without a cache")):
        _draw_line(axes, _column(calls[name], "call"), _column(calls[name], "seconds"), label)


def _column(points: list[dict[str, Any]], name: str) -> list[float]:
    return [point[name] for point in points]


def _draw_line(axes: Any, x: list[float], y: list[float], label: str) -> None:
    axes.plot(x, y, marker="o", markersize=4, label=label)


def _label(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(left=0)
    highest = max((max(line.get_ydata()) for line in axes.get_lines() if len(line.get_ydata())), default=1.0)
    axes.set_ylim(0, 1.2 * highest)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
