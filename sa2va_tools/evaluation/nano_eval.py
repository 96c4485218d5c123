"""`evaluate_nano`: the nano model's exam, every ability, through the classes that answer users' questions.

Held-out scores are on unseen scenes about colour × shape pairs that no training scene ever held; beside them
stand scores on unseen scenes of trained pairs. Intervals are 95 % bootstrap intervals over cases.
"""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterator
from pathlib import Path

from sa2va_tools.evaluation.nano_cases import EXAM_SEED
from sa2va_tools.evaluation.nano_exam import Exam
from sa2va_tools.evaluation.nano_report import NanoReport, Row
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress


def evaluate_nano(
    model_dir: Path,
    *,
    n: int = 200,
    seed: int = EXAM_SEED,
    workers: int = 1,
    on_progress: ProgressCallback = ignore_progress,
    cancel: CancelToken | None = None,
) -> NanoReport:
    """Run the exam on the checkpoint in `model_dir`: `n` cases per referring row, n / 2 per other row.

    `workers` processes share the work, one core each; speeds are measured afterwards on one core. Raises
    CheckpointError and its kinds where the checkpoint cannot be loaded, CancelledError between pieces.
    """
    cancel = cancel or CancelToken()
    exam = _exam(model_dir, n, seed)
    names = [name for name, _ in exam.parts()]
    rows: list[Row] = []
    for number, piece in enumerate(_pieces(exam, model_dir, workers)):
        rows += piece
        on_progress(Progress("exam", number + 1, len(names), names[number]))
        cancel.raise_if_cancelled()
    megabytes = sum(f.stat().st_size for f in model_dir.iterdir() if f.is_file()) / 1e6
    return NanoReport(tuple(rows), exam.speeds(), exam.runtime.revision, megabytes, seed, n)


def _exam(model_dir: Path, count: int, seed: int) -> Exam:
    runtime = Sa2vaRuntime.load(model_dir, name="nano", device="cpu", threads=1)
    return Exam(runtime, count, seed, CancelToken())


def _pieces(exam: Exam, model_dir: Path, workers: int) -> Iterator[list[Row]]:
    """Rows of every piece, in order."""
    if workers == 1:
        for _, part in exam.parts():
            yield part()
        return
    numbers = range(len(exam.parts()))
    with mp.get_context("spawn").Pool(workers, _start_worker, (model_dir, exam.count, exam.seed)) as pool:
        yield from pool.imap(_work, numbers)


_own_exam: list[Exam] = []
"""In a worker process: its exam, loaded once."""


def _start_worker(model_dir: Path, count: int, seed: int) -> None:
    _own_exam.append(_exam(model_dir, count, seed))


def _work(number: int) -> list[Row]:
    return _own_exam[0].parts()[number][1]()
