"""`sa2va train nano` and `sa2va eval nano`, which import what they need when they run."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import BadParameter, Option, Typer

from sa2va_server.cli.commands import with_session
from sa2va_server.cli.session import Session
from sa2va_server.cli.values import read_path
from sa2va_tools import atomic


def _read_new_file(text: str) -> Path:
    path = read_path(text)
    if path.is_dir():
        raise BadParameter(f"{path} is a directory; give a file.")
    if path.exists() and not os.access(path, os.W_OK):
        raise BadParameter(f"{path} cannot be written.")
    return path


train_app = Typer(help="Train a model.", no_args_is_help=True)
eval_app = Typer(help="Evaluate a model.", no_args_is_help=True)


@train_app.command("nano")
@with_session
def train(
    session: Session,
    out: Annotated[
        Path, Option(parser=read_path, metavar="DIR", help="Folder for the checkpoint and the logs.")
    ] = Path("runs/nano"),
    smoke: Annotated[
        bool, Option("--smoke", help="Run a few steps of every stage, to check that losses fall.")
    ] = False,
    share: Annotated[
        float | None, Option(metavar="PART", help="Run only this fraction of the steps, e.g. 0.1.")
    ] = None,
    seed: Annotated[int, Option(min=0, help="Seed of all random numbers.")] = 0,
    workers: Annotated[
        int | None,
        Option(min=1, help="Processes for the last four stages. Default: two on a CPU, one on a GPU."),
    ] = None,
) -> None:
    """Train the nano model on its world of shapes, on the CPU, or on a GPU with --device cuda.

    Run it again to resume.
    """
    from sa2va_tools.nano.course.train import train_nano

    device = session.settings().device
    with session.open_run() as run:
        trained = train_nano(
            out, smoke=smoke, share=share, seed=seed, workers=workers, device=device, run=run
        )
    if session.as_json:
        losses = {stage: asdict(fall) for stage, fall in trained.losses.items()}
        session.print_json({"checkpoint": str(trained.checkpoint), "run": str(trained.run), "losses": losses})
        return
    changes = (f"{stage} {fall.first:.2f} to {fall.last:.2f}" for stage, fall in trained.losses.items())
    session.print_lines(
        [
            f"Loss, first to last third: {', '.join(changes)}",
            f"Logs, curves and states: {trained.run}",
            f"Checkpoint: {trained.checkpoint}",
        ]
    )


@eval_app.command("nano")
@with_session
def evaluate(
    session: Session,
    n: Annotated[int, Option(min=1, help="Number of held-out questions per score.")] = 300,
    foreign: Annotated[int, Option(min=0, help="Extra clips drawn by another renderer (OpenCV).")] = 120,
    workers: Annotated[
        int | None, Option(min=1, help="Processes, each on one core. Default: all cores.")
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="Seed for another set of questions.")] = None,
    out: Annotated[
        Path | None,
        Option(parser=_read_new_file, metavar="FILE", help="Also write the scores to this JSON file."),
    ] = None,
) -> None:
    """Score the nano model on scenes that it has never seen, on the CPU."""
    from sa2va_tools.media.marks import is_own_file, mark_bytes
    from sa2va_tools.model.hub.names import find_checkpoint
    from sa2va_tools.nano.exam.cases import EXAM_SEED
    from sa2va_tools.nano.exam.evaluate import evaluate_nano

    folder = find_checkpoint(session.settings().model)
    if out is not None:
        if (out.exists() or out.is_symlink()) and not is_own_file(out):
            raise atomic.make_foreign_error(out)
        out.parent.mkdir(parents=True, exist_ok=True)
    with session.open_run() as run:
        report = evaluate_nano(
            folder,
            n=n,
            foreign=foreign,
            seed=EXAM_SEED if seed is None else seed,
            workers=workers or os.cpu_count() or 1,
            run=run,
        )
    session.print_lines([report.to_json() if session.as_json else report.to_text()])
    if out is not None:
        scores = report.to_json().encode()
        marked = mark_bytes(scores, ".json") if out.suffix.lower() == ".json" else scores
        atomic.write_bytes(out, marked, is_own=is_own_file)
