"""What the stages logged: read from their CSV files, compared, and drawn as a picture.

Knows the files' columns (step, seconds, name, mean) and nothing of training.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa2va_tools.atomic import write_bytes
from sa2va_tools.errors import MissingExtraError, RequestError
from sa2va_tools.training.config import STAGES

LOSS = "loss"
_SHARE_MARKS = ("right", "iou")  # in names of what lies in 0 … 1 and should rise; all else should fall
_PANEL_WH_INCHES = (7.0, 3.0)


@dataclass(slots=True)
class Curve:
    """Means over the steps since the point before: point k was logged after `steps[k]` steps."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Fall:
    """Means of a value over the first and over the last third of its points."""

    first: float
    last: float


def read_curves(csv_path: Path) -> dict[str, Curve]:
    """Curves by name, in the order in which the names first appear."""
    curves: dict[str, Curve] = defaultdict(Curve)
    with csv_path.open(newline="", encoding="utf-8") as file:
        for step, _seconds, name, value in csv.reader(file):
            curves[name].steps.append(int(step))
            curves[name].values.append(float(value))
    return dict(curves)


def read_run(run_dir: Path) -> dict[str, dict[str, Curve]]:
    """Curves by stage and name, of the stages that have logged, in their order. RequestError when none
    has."""
    logged = [stage for stage in STAGES if (run_dir / f"{stage}.csv").exists()]
    stages: dict[str, dict[str, Curve]] = {s: read_curves(run_dir / f"{s}.csv") for s in logged}
    if not stages:
        raise RequestError(
            f"No stage has logged anything in {run_dir}.",
            hint="Give the folder 'run' of a training run; it holds grounding.csv and others.",
        )
    return stages


def fall_of(curve: Curve) -> Fall:
    """How far a curve came down."""
    third = max(1, len(curve.values) // 3)
    first, last = curve.values[:third], curve.values[-third:]
    return Fall(sum(first) / len(first), sum(last) / len(last))


def loss_falls(run_dir: Path) -> dict[str, Fall]:
    """The fall of every stage's whole loss. RequestError when no stage has logged."""
    return {stage: fall_of(curves[LOSS]) for stage, curves in read_run(run_dir).items() if LOSS in curves}


def plot_curves(run_dir: Path, png: Path) -> None:
    """A row for each stage: on the left what should fall, on the right the shares that should rise.

    Raises MissingExtraError without matplotlib, RequestError when no stage has logged.
    """
    stages = read_run(run_dir)
    width, height = _PANEL_WH_INCHES
    tall = height * len(stages)
    figure = figure_class()(figsize=(2 * width, tall))
    # By hand: laying out so many panels by their contents takes seconds.
    places = {"left": 0.04, "right": 0.88, "wspace": 0.42, "hspace": 0.4}
    places |= {"bottom": 0.5 / tall, "top": 1 - 0.35 / tall}
    rows = figure.subplots(len(stages), 2, squeeze=False, gridspec_kw=places)
    for (stage, curves), (falling, rising) in zip(stages.items(), rows, strict=True):
        shares = {name for name in curves if any(mark in name for mark in _SHARE_MARKS)}
        _draw(falling, f"{stage}: losses", {n: c for n, c in curves.items() if n not in shares})
        _draw(rising, f"{stage}: shares", {n: c for n, c in curves.items() if n in shares})
        falling.set_yscale("log")
        rising.set_ylim(0, 1)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    write_bytes(png, picture.getvalue())


def figure_class() -> Any:
    """matplotlib's figure, which needs no screen. Raises MissingExtraError when it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib", "train") from error
    return Figure


def _draw(axes: Any, title: str, curves: dict[str, Curve]) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel("steps")
    axes.grid(alpha=0.3)
    for name, curve in curves.items():
        axes.plot(curve.steps, curve.values, label=name, linewidth=2.5 if name == LOSS else 1.2)
    if curves:
        axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
