"""`evaluate_nano`: the nano model's exam, every ability, through the classes that answer users' questions.

Held-out scores are on unseen scenes about colour × shape pairs that no training scene ever held; beside them
stand scores on unseen scenes of trained pairs. Intervals are 95 % bootstrap intervals over cases.
"""

from __future__ import annotations

import multiprocessing as mp
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import RequestError, Sa2vaError
from sa2va_tools.evaluation.caption_metrics import average_precision, mean_mask_iou
from sa2va_tools.evaluation.metrics import bootstrap, cumulative_iou, mean, mean_iou, precision_at
from sa2va_tools.evaluation.nano_cases import EXAM_SEED, exam_cases
from sa2va_tools.evaluation.nano_exam import PARTS, Exam, Values
from sa2va_tools.evaluation.nano_foreign import foreign_exam
from sa2va_tools.evaluation.nano_report import NanoReport, Row
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress
from sa2va_tools.settings import Settings
from sa2va_tools.training.world import HELD_OUT_NAMES, Split

_CHUNK = 25
_POLL_S = 0.5
_TRAINED_SHARE = 3
"""Of trained pairs a third of the cases: they stand beside for comparison."""
_SCORES: dict[str, Callable[[Sequence[Any]], float]] = {
    "cIoU": cumulative_iou,
    "gIoU": mean_iou,
    "Pr@0.5": lambda overlaps: precision_at(overlaps, 0.5),
    "AP50": average_precision,
    "mIoU": mean_mask_iou,
    "mIoU, missed count 0": lambda pictures: mean_mask_iou(pictures, count_missed=True),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """Up to `_CHUNK` questions of one part: what a worker does in one go."""

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
    on_progress: ProgressCallback = ignore_progress,
    cancel: CancelToken | None = None,
) -> NanoReport:
    """Run the exam on the checkpoint in `model_dir`: `n` held-out questions per row, n / 3 of trained pairs,
    and `foreign` files of another renderer.

    `workers` processes share the work, one core each; speeds are measured afterwards on one core. Raises
    CheckpointError and its kinds where the checkpoint cannot be loaded, RequestError for one that was trained
    without other pairs, CancelledError when `cancel` is set.
    """
    cancel = cancel or CancelToken()
    exam = Exam(runtime_of(model_dir), cancel)
    _check_held_out(exam.runtime.config.raw)
    pieces = exam_pieces(n)
    answered: dict[Piece, Values] = {}
    for piece, values in _answered(exam, model_dir, pieces, seed, workers):
        answered[piece] = values
        on_progress(Progress("exam", len(answered), len(pieces), f"{PARTS[piece.part].name}, {piece.split}"))
        cancel.raise_if_cancelled()
    rows = rows_of(answered)
    if foreign:
        rows += _foreign_rows(model_dir, foreign, seed, on_progress, cancel)
    megabytes = sum(f.stat().st_size for f in model_dir.iterdir() if f.is_file()) / 1e6
    return NanoReport(rows, exam.speeds(), exam.runtime.revision, megabytes, seed, n)


def _check_held_out(config: Mapping[str, Any]) -> None:
    """A pair is held out only for weights that were trained without it."""
    kept = config.get("held_out_pairs", [list(pair) for pair in HELD_OUT_NAMES])
    if kept != [list(pair) for pair in HELD_OUT_NAMES]:
        raise RequestError(
            f"This checkpoint was trained without {kept}; the exam's held-out pairs are {HELD_OUT_NAMES}.",
            hint="Examine it with the version that trained it.",
        )


def exam_pieces(n: int) -> list[Piece]:
    """The whole exam cut up, held-out cases first, long clips first of all."""
    slow_first = sorted(range(len(PARTS)), key=lambda number: -PARTS[number].exercise.frames)
    counts: tuple[tuple[Split, int], ...] = (("test", n), ("train", -(-n // _TRAINED_SHARE)))
    return [
        Piece(part, split, start // _CHUNK, min(_CHUNK, count - start))
        for split, count in counts
        for part in slow_first
        for start in range(0, count, _CHUNK)
    ]


def rows_of(answered: dict[Piece, Values]) -> tuple[Row, ...]:
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


def _foreign_rows(
    model_dir: Path, count: int, seed: int, on_progress: ProgressCallback, cancel: CancelToken
) -> tuple[Row, ...]:
    """Through the engine, with a store that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.read(store_dir=Path(folder), device="cpu", threads=1)
        with Engine.load(model_dir, settings=settings) as engine:
            return foreign_exam(engine, count=count, seed=seed, on_progress=on_progress, cancel=cancel)


def runtime_of(model_dir: Path) -> Sa2vaRuntime:
    """The checkpoint as the exam runs it: on one core."""
    return Sa2vaRuntime.load(model_dir, name="nano", device="cpu", threads=1)


def _answered(
    exam: Exam, model_dir: Path, pieces: Sequence[Piece], seed: int, workers: int
) -> Iterator[tuple[Piece, Values]]:
    if workers == 1:
        yield from ((piece, ask(exam, piece, seed)) for piece in pieces)
        return
    context = mp.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (model_dir, seed))
    try:
        waiting = {pool.submit(_work, piece) for piece in pieces}
        while waiting:
            exam.cancel.raise_if_cancelled()
            done, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise Sa2vaError(
            "A process of the exam was ended from outside.", hint="Use fewer workers: each needs 0.6 GB."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def ask(exam: Exam, piece: Piece, seed: int) -> Values:
    """The raw values of one piece."""
    part = PARTS[piece.part]
    cases = exam_cases(part.exercise, piece.split, piece.count, f"{seed} {piece.chunk}")
    return dict(part.ask(exam, part.name, cases))


_own_exam: list[tuple[Exam, int]] = []
"""In a worker process: its exam, loaded once, and the seed."""


def _start_worker(model_dir: Path, seed: int) -> None:
    _own_exam.append((Exam(runtime_of(model_dir)), seed))


def _work(piece: Piece) -> tuple[Piece, Values]:
    exam, seed = _own_exam[0]
    return piece, ask(exam, piece, seed)
