"""Groups of commands: `sa2va models …`, `sa2va train …` and `sa2va eval …`. Parses only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sa2va_server.cli_session import Session, with_session

train_app = typer.Typer(help="Train a model.", no_args_is_help=True)
eval_app = typer.Typer(help="Measure a model.", no_args_is_help=True)
models_app = typer.Typer(help="Checkpoints: which there are, what they need, whether one is whole.")


@models_app.callback(invoke_without_command=True)
@with_session
def models(session: Session) -> None:
    """The published checkpoints with their sizes, scores and families."""
    from sa2va_server.cli_models import list_command

    if session.subcommand is None:
        list_command(session)


@models_app.command("info")
@with_session
def models_info(
    session: Session,
    checkpoint: Annotated[str, typer.Argument(metavar="ID|DIR", help="A hub id, a folder, or nano.")],
    objects: Annotated[int, typer.Option("--objects", min=1, help="Objects followed at once.")] = 1,
    image: Annotated[bool, typer.Option("--image", help="For an image instead of a video.")] = False,
    key_frames: Annotated[
        int | None, typer.Option("--key-frames", min=1, help="Frames that the language model sees.")
    ] = None,
) -> None:
    """What a checkpoint is, what it can do, and how much memory it wants."""
    from sa2va_server.cli_models import info_command

    info_command(session, checkpoint, objects, image, key_frames)


@models_app.command("check")
@with_session
def models_check(
    session: Session,
    checkpoint: Annotated[str, typer.Argument(metavar="DIR|ID", help="A folder, a pulled hub id, or nano.")],
) -> None:
    """Look a checkpoint over without loading it: config, files, keys, shapes, tokenizer."""
    from sa2va_server.cli_models import check_command

    check_command(session, checkpoint)


@train_app.command("nano")
@with_session
def train_nano(
    session: Session,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write the checkpoint.")] = Path(
        "runs/nano"
    ),
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Every stage for a moment only, to see that it learns.")
    ] = False,
    share: Annotated[
        float | None,
        typer.Option("--share", metavar="PART", help="The part of the recipe's steps to take, e.g. 0.1."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Processes of the last two stages: two on a CPU, one on a GPU."
        ),
    ] = None,
) -> None:
    """Train the nano model on its world of shapes, on the CPU or with --device cuda on a GPU.

    Stopped and called again, it goes on where it was.
    """
    from sa2va_server.cli_commands import train_command

    train_command(session, out, smoke=smoke, share=share, seed=seed, workers=workers)


@eval_app.command("nano")
@with_session
def eval_nano(
    session: Session,
    n: Annotated[int, typer.Option("--n", min=1, help="Held-out questions per row.")] = 300,
    foreign: Annotated[
        int, typer.Option("--foreign", min=0, help="Files of another renderer, beside them.")
    ] = 120,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes, one core each. Default: all cores.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Another exam than the published one, to tune on.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the scores there, as JSON.")
    ] = None,
) -> None:
    """Score the nano model on scenes that it never saw (on the CPU)."""
    from sa2va_server.cli_commands import eval_command

    eval_command(session, n=n, foreign=foreign, workers=workers, seed=seed, out=out)
