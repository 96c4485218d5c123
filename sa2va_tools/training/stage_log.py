"""The log of a training stage, a CSV file of step, seconds, name, mean: written, read, compared, plotted."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sa2va_tools.atomic import write_bytes
from sa2va_tools.errors import MissingExtraError, RequestError

LOSS = "loss"
SKIPPED = "skipped"
"""The share of steps whose loss or gradient was not finite; logged only if there were any."""
_RISING = ("accuracy", "iou")
"""Values with such names lie in 0 … 1 and should rise."""
_PANEL_WH_INCHES = (7.0, 3.0)


class StageLog:
    """Collects values of every step and appends their means to the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, list[Tensor | float]] = defaultdict(list)

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Remember one step's values; they are read from their device only when they are written."""
        for name, value in values.items():
            self._values[name].append(value.detach() if isinstance(value, Tensor) else value)

    def write(self, step: int, elapsed_s: float) -> dict[str, float]:
        """Append the means since the last call, and return them."""
        means = {name: sum(map(float, values)) / len(values) for name, values in self._values.items()}
        self._values.clear()
        if not means.get(SKIPPED):
            means.pop(SKIPPED, None)
        if means:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                for name, mean in means.items():
                    writer.writerow((step, round(elapsed_s, 1), name, round(mean, 5)))
        return means

    def truncate(self, step: int) -> None:
        """Remove the rows after `step`, which a resumed stage will write again, and a row that is cut off."""
        if not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= step]
        write_bytes(self._path, "".join(kept).encode())


@dataclass(slots=True)
class Curve:
    """Means of one value: `values[k]` is the mean over the steps after `steps[k - 1]` up to `steps[k]`."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Change:
    """Means of a curve's first third and of its last third."""

    first: float
    last: float


def read_curves(csv_path: Path) -> dict[str, Curve]:
    """A stage's curves by name, in the order in which the names first appear."""
    curves: dict[str, Curve] = defaultdict(Curve)
    with csv_path.open(newline="", encoding="utf-8") as file:
        for step, _seconds, name, value in csv.reader(file):
            curves[name].steps.append(int(step))
            curves[name].values.append(float(value))
    return dict(curves)


def read_stages(folder: Path, stages: Sequence[str]) -> dict[str, dict[str, Curve]]:
    """Curves by stage and name, of the stages that have a log. RequestError if none has."""
    logged = [stage for stage in stages if (folder / f"{stage}.csv").exists()]
    if not logged:
        raise RequestError(
            f"{folder} contains no log of a training stage.",
            hint=f"Give the folder of a training run that holds {stages[0]}.csv or a later stage's log.",
        )
    return {stage: read_curves(folder / f"{stage}.csv") for stage in logged}


def compare_thirds(curve: Curve) -> Change:
    """How far a curve rose or fell."""
    third = max(1, len(curve.values) // 3)
    first = curve.values[:third]
    last = curve.values[-third:]
    return Change(sum(first) / len(first), sum(last) / len(last))


def read_loss_changes(folder: Path, stages: Sequence[str]) -> dict[str, Change]:
    """The change of each stage's total loss. RequestError if no stage has a log."""
    return {
        stage: compare_thirds(curves[LOSS])
        for stage, curves in read_stages(folder, stages).items()
        if LOSS in curves
    }


def plot_curves(folder: Path, stages: Sequence[str], png: Path) -> None:
    """Write a picture with one row per stage: on the left what should fall, on the right what should rise.

    Raises MissingExtraError without matplotlib, RequestError if no stage has a log.
    """
    logged = read_stages(folder, stages)
    width, height = _PANEL_WH_INCHES
    total_height = height * len(logged)
    figure = load_figure_class()(figsize=(2 * width, total_height))
    # Fixed positions: matplotlib takes seconds to lay out so many panels by their contents.
    margins = {"left": 0.04, "right": 0.88, "wspace": 0.42, "hspace": 0.4}
    margins |= {"bottom": 0.5 / total_height, "top": 1 - 0.35 / total_height}
    rows = figure.subplots(len(logged), 2, squeeze=False, gridspec_kw=margins)
    for (stage, curves), (falling_axes, rising_axes) in zip(logged.items(), rows, strict=True):
        rising = {name for name in curves if any(part in name for part in _RISING)}
        _draw(falling_axes, f"{stage}: losses", {n: c for n, c in curves.items() if n not in rising})
        _draw(rising_axes, f"{stage}: accuracies", {n: c for n, c in curves.items() if n in rising})
        falling_axes.set_yscale("log")
        rising_axes.set_ylim(0, 1)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    write_bytes(png, picture.getvalue())


def load_figure_class() -> Any:
    """matplotlib's Figure, which needs no screen. Raises MissingExtraError if matplotlib is not installed."""
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
