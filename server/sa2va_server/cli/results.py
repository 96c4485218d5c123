"""`sa2va list`, `show`, `export` and `rm`: results that are in the store already. No model is loaded."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from sa2va_server.cli import flags
from sa2va_server.cli.commands import EXIT_FAILED, with_session
from sa2va_server.cli.session import Session
from sa2va_server.cli.values import read_path
from sa2va_tools.errors import RequestError

if TYPE_CHECKING:
    from sa2va_tools.store.removal import Removal

_UNITS_S = {"min": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
_AGE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(min|h|d|w)\s*")
_ResultHandles = Annotated[
    list[str], Argument(metavar="HANDLE", help="Answer handles (answer:…) or mask handles (mask:…).")
]
_Kind = Literal["describe", "segment", "ground", "caption", "track"]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for name, command in (("list", list_), ("show", show), ("export", export), ("rm", rm)):
        app.command(name)(command)


@with_session
def list_(
    session: Session,
    *,
    media: Annotated[
        str | None,
        Option(
            metavar="MEDIA",
            help="Only results about this file (also if it is gone), folder of frames or handle.",
        ),
    ] = None,
    kind: Annotated[_Kind | None, Option(help="Only results of this command.")] = None,
    text: Annotated[
        str | None,
        Option(metavar="TEXT", help="Only results with this in a label, question, answer or file name."),
    ] = None,
    limit: Annotated[
        int | None, Option("--limit", "-n", min=1, metavar="N", help="Only the newest N results.")
    ] = None,
) -> None:
    """List the results in the store, newest first. Needs no model."""
    from sa2va_server.cli.results_text import format_results, result_json

    with session.open_engine() as engine, session.open_run() as run:
        found = engine.list_results(media=media, kind=kind, text=text, limit=limit, run=run)
    if session.as_json:
        session.print_json({"results": [result_json(item) for item in found]})
    else:
        session.print_lines(format_results(found))


@with_session
def show(
    session: Session,
    handles: Annotated[
        list[str], Argument(metavar="HANDLE", help="Answer, mask or media handles (answer:…, mask:…).")
    ],
    *,
    rle_in_json: flags.RleInJson = False,
) -> None:
    """Print stored results as when they were made; of a media handle, what is known of it. Needs no model."""
    from sa2va_server.cli.results_text import show_handle
    from sa2va_server.cli.rle_json import require_json

    require_json(wants_rle=rle_in_json, as_json=session.as_json)
    with session.open_engine() as engine, session.open_run() as run:
        shown = [show_handle(engine, name.strip(), run, with_rles=rle_in_json) for name in handles]
    if session.as_json:
        documents = [document for _, document in shown]
        session.print_json(documents[0] if len(documents) == 1 else {"results": documents})
        return
    for number, (lines, _) in enumerate(shown):
        session.print_lines([*([""] if number else []), *lines])


@with_session
def export(
    session: Session,
    handles: _ResultHandles,
    *,
    out: Annotated[
        Path | None,
        Option(parser=read_path, metavar="DIR", help="Write masks.json and other files into DIR."),
    ] = None,
    formats: flags.Formats = None,
) -> None:
    """Write the files of stored results: masks.json, PNGs, an overlay and more. Computes nothing again."""
    from sa2va_server.cli.export import prepare_folder, write_masks
    from sa2va_server.cli.text import format_files

    if out is None:
        raise RequestError("export needs a folder to write into.", hint="Add --out DIR.")
    names = [name.strip() for name in handles]
    with prepare_folder(out), session.open_engine() as engine, session.open_run() as run:
        files = write_masks(engine, names, out, formats, run)
    if session.as_json:
        session.print_json({"files": files})
    else:
        session.print_lines(format_files(files))


@with_session
def rm(
    session: Session,
    handles: Annotated[
        list[str] | None,
        Argument(
            metavar="HANDLE",
            help="Answer handles; a media handle (media:…) stands for all results about it.",
        ),
    ] = None,
    *,
    older_than: Annotated[
        str | None,
        Option(metavar="AGE", help="Remove what was last made longer ago than this: 30d, 12h, 2w, 90min."),
    ] = None,
    remove_all: Annotated[bool, Option("--all", help="Remove everything in the store.")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove results and their masks from the store. Your files stay, exported ones, too. Needs no model."""
    from sa2va_server.cli.results_text import format_removal, removal_json

    chosen: dict[str, Any] = {
        "handles": [name.strip() for name in handles or ()],
        "older_than_s": None if older_than is None else parse_age_s(older_than),
        "everything": remove_all,
    }
    if not handles and older_than is None and not remove_all:
        raise RequestError(
            "Nothing was named.", hint="Give handles (see: sa2va list), --older-than or --all."
        )
    with session.open_engine() as engine, session.open_run() as run:
        planned: Removal = engine.remove_results(**chosen, dry_run=True, run=run)
        is_empty = not (planned.answers or planned.masks or planned.media or planned.size_bytes)
        if not is_empty and not yes and not _confirm(session, planned):
            session.print_lines(["Nothing was removed."])
            raise typer.Exit(EXIT_FAILED)
        removed = planned if is_empty else engine.remove_results(**chosen, run=run)
    if session.as_json:
        session.print_json(removal_json(removed))
    else:
        session.print_lines([format_removal(removed, "Removed")])


def parse_age_s(text: str) -> float:
    """Seconds of `90min`, `12h`, `30d` or `2w`. RequestError for anything else."""
    match = _AGE.fullmatch(text.lower())
    if match is None:
        raise RequestError(
            f"--older-than is {text!r}; it must be a number with a unit.",
            hint="Examples: 90min, 12h, 30d, 2w.",
        )
    return float(match[1]) * _UNITS_S[match[2]]


def _confirm(session: Session, planned: Removal) -> bool:
    """Ask on the terminal. RequestError if there is none."""
    from sa2va_server.cli.results_text import format_removal

    question = format_removal(planned, "This removes")
    if session.as_json or not has_terminal():
        raise RequestError(f"{question} Removing needs a confirmation.", hint="Add --yes to confirm.")
    return typer.confirm(f"{question} Continue?", err=True)


def has_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
