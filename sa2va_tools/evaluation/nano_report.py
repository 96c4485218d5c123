"""The exam's result as values, as a table for people, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from sa2va_tools.evaluation.metrics import Interval
from sa2va_tools.training.world import HELD_OUT_NAMES, Split

_SPLIT_WORDS: dict[Split, str] = {"test": "held-out pairs", "train": "trained pairs"}


@dataclass(frozen=True, slots=True)
class Row:
    """One score. `split` "test" is on held-out pairs; both splits are on unseen scenes."""

    ability: str
    split: Split
    metric: str
    score: Interval


@dataclass(frozen=True, slots=True)
class NanoReport:
    """All scores; `speeds` are (what, value) on one core; `megabytes` of the whole checkpoint."""

    rows: tuple[Row, ...]
    speeds: tuple[tuple[str, float], ...]
    revision: str
    megabytes: float
    seed: int
    n: int

    def score(self, ability: str, metric: str, *, split: Split = "test") -> Interval:
        """One score by name; KeyError for one that is not there."""
        for row in self.rows:
            if (row.ability, row.metric, row.split) == (ability, metric, split):
                return row.score
        raise KeyError(f"no score {ability!r} / {metric!r} / {split!r}")

    def to_text(self) -> str:
        """A table; Markdown reads it too."""
        lines = [
            f"nano {self.revision}, {self.megabytes:.1f} MB, exam seed {self.seed}, n = {self.n} per row.",
            "Held out: unseen scenes, and " + ", ".join(f"{c} {s}" for c, s in HELD_OUT_NAMES) + ".",
            "",
            f"| ability | metric | {_SPLIT_WORDS['test']} | {_SPLIT_WORDS['train']} |",
            "|---|---|---|---|",
        ]
        for ability, metric in dict.fromkeys((row.ability, row.metric) for row in self.rows):
            cells = [self._cell(ability, metric, split) for split in _SPLIT_WORDS]
            lines.append(f"| {ability} | {metric} | {' | '.join(cells)} |")
        lines += ["", *(f"{what}: {value:.2f}" for what, value in self.speeds)]
        return "\n".join(lines)

    def _cell(self, ability: str, metric: str, split: Split) -> str:
        try:
            return str(self.score(ability, metric, split=split))
        except KeyError:
            return "–"

    def to_json(self) -> str:
        """Every field of the report, as one object."""
        report = asdict(self)
        report["rows"] = [{**asdict(row)} for row in self.rows]
        report["speeds"] = dict(self.speeds)
        report["held_out_pairs"] = HELD_OUT_NAMES
        return json.dumps(report, indent=1)
