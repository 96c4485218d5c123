"""`evaluate_nano`: the nano's exam in every ability, through the same classes that serve users.

Held-out scores are on unseen scenes with colour × shape pairs that no training scene contains; for comparison
there are scores on unseen scenes of trained pairs. Intervals are 95 % bootstrap intervals over cases.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sa2va_tools.engine.loading import load_engine
from sa2va_tools.errors import RequestError, Sa2vaError
from sa2va_tools.evaluation.caption_metrics import average_precision, mean_mask_iou
from sa2va_tools.evaluation.metrics import Interval, bootstrap, cumulative_iou, mean, mean_iou, precision_at
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.nano.exam.cases import EXAM_SEED, Examiner, measure_speeds, sample_cases
from sa2va_tools.nano.exam.foreign import FOREIGN, evaluate_foreign_files
from sa2va_tools.nano.exam.marking import PARTS, Values
from sa2va_tools.nano.world.sampling import Split
from sa2va_tools.nano.world.scenes import HELD_OUT_NAMES
from sa2va_tools.run import Run

_SPLIT_TITLES: dict[Split, str] = {"test": "held-out pairs", "train": "trained pairs"}
_PIECE_SIZE = 25
_POLL_S = 0.5
_TRAINED_FRACTION = 3
"""Trained pairs get a third of the cases: they are there for comparison."""
_SCORES: dict[str, Callable[[Sequence[Any]], float]] = {
    "cIoU": cumulative_iou,
    "gIoU": mean_iou,
    "Pr@0.5": lambda overlaps: precision_at(overlaps, 0.5),
    "AP50": average_precision,
    "mIoU": mean_mask_iou,
    "mIoU, missed count 0": lambda pictures: mean_mask_iou(pictures, count_missed=True),
}
"""Of metrics that are not the mean of their values."""


@dataclass(frozen=True, slots=True)
class Row:
    """One score. The split "test" is on held-out pairs; the scenes of both splits are unseen."""

    ability: str
    split: Split
    metric: str
    score: Interval


@dataclass(frozen=True, slots=True)
class NanoReport:
    """All scores."""

    rows: tuple[Row, ...]
    speeds: tuple[tuple[str, float], ...]
    """(What, value), on one core."""
    revision: str
    megabytes: float
    """Of the whole checkpoint."""
    seed: int
    n: int
    """Held-out questions per row."""

    def to_text(self) -> str:
        """A Markdown table with a heading and the speeds."""
        lines = [
            f"nano {self.revision}, {self.megabytes:.1f} MB, exam seed {self.seed}, n = {self.n} per row.",
            "Held out: unseen scenes, and " + ", ".join(f"{c} {s}" for c, s in HELD_OUT_NAMES) + ".",
            "",
            f"| ability | metric | {_SPLIT_TITLES['test']} | {_SPLIT_TITLES['train']} |",
            "|---|---|---|---|",
        ]
        scores = {(row.ability, row.metric, row.split): str(row.score) for row in self.rows}
        for ability, metric in dict.fromkeys((row.ability, row.metric) for row in self.rows):
            cells = [scores.get((ability, metric, split), "–") for split in _SPLIT_TITLES]
            lines.append(f"| {ability} | {metric} | {' | '.join(cells)} |")
        lines += ["", *(f"{what}: {value:.2f}" for what, value in self.speeds)]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Every field of the report, as one object."""
        report = asdict(self)
        report["speeds"] = dict(self.speeds)
        report["held_out_pairs"] = HELD_OUT_NAMES
        return json.dumps(report, indent=1)


@dataclass(frozen=True, slots=True)
class Piece:
    """Up to 25 questions of one part: what a process does at once."""

    part: int
    split: Split
    chunk: int
    count: int


def evaluate_nano(
    model_dir: Path,
    *,
    n: int = 300,
    foreign: int = 120,
    seed: int = EXAM_SEED,
    workers: int = 1,
    run: Run | None = None,
) -> NanoReport:
    """Examine the checkpoint in `model_dir`: `n` held-out questions per row, n / 3 of trained pairs, and
    `foreign` files from another renderer.

    `workers` processes of one core each share the work; speeds are measured afterwards on one core. Raises
    CheckpointError and its kinds if the checkpoint cannot be loaded, RequestError if it was trained with
    other held-out pairs, CancelledError if `run` is cancelled.
    """
    run = run or Run()
    runtime = load_runtime(model_dir)
    _check_held_out_pairs(runtime.config.raw)
    pieces = cut_exam(n)
    answered: dict[Piece, Values] = {}
    for piece, values in _answer_all(runtime, model_dir, pieces, seed=seed, workers=workers, run=run):
        answered[piece] = values
        run.report("exam", len(answered), len(pieces), f"{PARTS[piece.part].name}, {piece.split}")
        run.raise_if_cancelled()
    rows = score_rows(answered)
    if foreign:
        with (
            tempfile.TemporaryDirectory() as folder,
            load_engine(model_dir, store_dir=Path(folder), device="cpu") as engine,
        ):
            scores = evaluate_foreign_files(engine, count=foreign, seed=seed, run=run)
            rows += tuple(Row(FOREIGN, "test", metric, score) for metric, score in scores.items())
    with runtime.session(run) as session:
        speeds = measure_speeds(Examiner(session))
    megabytes = sum(file.stat().st_size for file in model_dir.iterdir() if file.is_file()) / 1e6
    return NanoReport(rows, speeds, runtime.revision, megabytes, seed, n)


def _check_held_out_pairs(config: Mapping[str, Any]) -> None:
    """A pair is held out only if the weights were trained without it."""
    expected = [list(pair) for pair in HELD_OUT_NAMES]
    held_out = config.get("held_out_pairs", expected)
    if held_out != expected:
        raise RequestError(
            f"This checkpoint was trained without the pairs {held_out}; the exam tests {expected}.",
            hint="Examine it with the version of sa2va-tools that trained it.",
        )


def cut_exam(n: int) -> list[Piece]:
    """The whole exam in pieces, held-out cases first, and of those the longest clips first."""
    slowest_first = sorted(range(len(PARTS)), key=lambda number: -PARTS[number].exercise.frames)
    counts: tuple[tuple[Split, int], ...] = (("test", n), ("train", -(-n // _TRAINED_FRACTION)))
    return [
        Piece(part, split, chunk=start // _PIECE_SIZE, count=min(_PIECE_SIZE, count - start))
        for split, count in counts
        for part in slowest_first
        for start in range(0, count, _PIECE_SIZE)
    ]


def score_rows(answered: Mapping[Piece, Values]) -> tuple[Row, ...]:
    """Scores with intervals, in the order of the parts."""
    merged: dict[tuple[str, str, Split], list[Any]] = defaultdict(list)
    for piece in sorted(answered, key=lambda piece: (piece.part, piece.split, piece.chunk)):
        for (ability, metric), values in answered[piece].items():
            merged[ability, metric, piece.split].extend(values)
    return tuple(
        Row(ability, split, metric, bootstrap(values, _SCORES.get(metric, mean)))
        for (ability, metric, split), values in merged.items()
        if values
    )


def load_runtime(model_dir: Path) -> Sa2vaRuntime:
    """The checkpoint as the exam runs it: on the CPU, where a model of this size uses one thread."""
    return Sa2vaRuntime.load(model_dir, name="nano", device="cpu")


def answer_piece(runtime: Sa2vaRuntime, piece: Piece, seed: int, run: Run) -> Values:
    """The raw values of one piece."""
    part = PARTS[piece.part]
    cases = sample_cases(part.exercise, piece.split, piece.count, f"{seed} {piece.chunk}")
    with runtime.session(run) as session:
        return part.mark_all(Examiner(session), cases)


def _answer_all(
    runtime: Sa2vaRuntime, model_dir: Path, pieces: Sequence[Piece], *, seed: int, workers: int, run: Run
) -> Iterator[tuple[Piece, Values]]:
    if workers == 1:
        yield from ((piece, answer_piece(runtime, piece, seed, run)) for piece in pieces)
        return
    pool = ProcessPoolExecutor(workers, mp.get_context("spawn"))
    try:
        waiting = {pool.submit(_work, model_dir, piece, seed) for piece in pieces}
        while waiting:
            run.raise_if_cancelled()
            done, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise Sa2vaError(
            "A process of the exam was stopped by the system, probably because memory ran out.",
            hint="Use fewer workers: each needs 0.6 GB.",
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_load_once = cache(load_runtime)


def _work(model_dir: Path, piece: Piece, seed: int) -> tuple[Piece, Values]:
    """In a process of the pool."""
    return piece, answer_piece(_load_once(model_dir), piece, seed, Run())
