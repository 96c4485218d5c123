"""Run a tool with arguments of the command line, and show its result as text, JSON or files.

A command imports this when it runs, so that `sa2va --help` stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from sa2va_server.cli.commands import EXIT_FAILED, error_json, print_error
from sa2va_server.cli.export import prepare_folder, write_masks
from sa2va_server.cli.flags import OutputFlags, ReadingFlags
from sa2va_server.cli.output import OutputError
from sa2va_server.cli.reading import open_as_given
from sa2va_server.cli.rle_json import add_rles, require_json
from sa2va_server.cli.session import Session
from sa2va_server.cli.shell import quote_command
from sa2va_server.cli.text import format_files, format_result
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import MediaUnreadableError, RequestError, Sa2vaError
from sa2va_tools.printable import make_valid
from sa2va_tools.run import Run
from sa2va_tools.tools.base import Tool
from sa2va_tools.tools.catalogue import find_tool
from sa2va_tools.tools.outputs import GroundResult, MasksResult, Traced


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool returned, and what became of its files."""

    result: Traced
    document: Mapping[str, Any]
    """The result as JSON, with the masks themselves if that is wanted."""
    folder: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """Kind → path."""
    failure: Sa2vaError | None = None
    """Why the files could not be written."""

    def as_document(self, *, with_files: bool) -> dict[str, Any]:
        """What `--json` prints."""
        document = dict(self.document)
        if with_files:
            document["files"] = dict(self.files)
        if self.failure is not None:
            document["error"] = error_json(self.failure)
        return document


def run_tool(
    session: Session, name: str, raw: Mapping[str, Any], reading: ReadingFlags, output: OutputFlags
) -> None:
    """Run the tool, write its masks if a folder is given, and print the result."""
    tool = find_tool(name)
    tool.parse(make_valid(raw))  # a wrong argument is told before anything is opened
    check_output(session, output)
    with prepare_folder(output.out), session.open_engine() as engine, session.open_run() as run:
        outcome = do_tool(engine, tool, raw, reading, output, run)
    try:
        if session.as_json:
            session.print_json(outcome.as_document(with_files=output.out is not None))
        else:
            session.print_lines([*format_result(outcome.result), *_suggest_next(session, outcome, output)])
    except OutputError as error:
        error.add_hint(f"The result is stored as {outcome.result.handle}.")
        raise
    if outcome.failure is not None:
        print_error(session, outcome.failure)
        raise typer.Exit(EXIT_FAILED)


def check_output(session: Session, output: OutputFlags) -> None:
    """RequestError for `--format` without `--out`, and for `--rle-in-json` without `--json`."""
    require_json(wants_rle=output.rle_in_json, as_json=session.as_json)
    if output.formats and output.out is None:
        raise RequestError("--format needs --out.", hint="Add --out DIR.")


def do_tool(
    engine: Engine,
    tool: Tool[Any],
    raw: Mapping[str, Any],
    reading: ReadingFlags,
    output: OutputFlags,
    run: Run,
) -> Outcome:
    """Run the tool and write its masks if a folder is given. A failure to write does not lose the result."""
    try:
        arguments = tool.parse({**raw, "media": _name_media(engine, raw["media"], reading, run)})
        returned = tool.run(engine, arguments, run)
    except MediaUnreadableError as error:
        if raw["media"] is not None and Path(raw["media"]).expanduser().is_dir():
            error.add_hint("Add --each to take each image and video in it separately.")
        raise
    result = returned.structured
    assert result is not None  # every tool with a command of this kind has one
    document = returned.as_dict() or {}
    if output.rle_in_json:
        add_rles(engine, document)
    if output.out is None or not isinstance(result, MasksResult | GroundResult):
        return Outcome(result, document)
    folder = str(output.out)
    try:
        files = write_masks(engine, [result.handle], output.out, output.formats, run)
    except Sa2vaError as error:
        if run.cancelled:
            raise
        error.add_hint(f"The result itself is stored as {result.handle}.")
        return Outcome(result, document, folder, failure=error)
    return Outcome(result, document, folder, files)


def _name_media(engine: Engine, media: str | None, reading: ReadingFlags, run: Run) -> str | None:
    """What tools are given: a handle if the options say how to read the media, or if its path is no Unicode
    text, which tools do not take."""
    opened = open_as_given(engine, media, reading, run)
    if opened is None or opened == make_valid(opened):
        return opened
    return engine.find_media(opened, run=run).handle


def _suggest_next(session: Session, outcome: Outcome, output: OutputFlags) -> list[str]:
    """For a result with masks: the files, or how to look at the masks."""
    result, files = outcome.result, outcome.files
    if not isinstance(result, MasksResult | GroundResult):
        return []
    has_masks = any(mask.found for mask in result.masks)
    if files:
        return format_files(files) if has_masks else ["Nothing was found.", *format_files(files)]
    if not has_masks:
        return ["Nothing was found, so there is nothing to view."]
    store = ["--store", str(session.flags.store_dir)] if session.flags.store_dir else []
    view = quote_command(["sa2va", "view", result.handle, *store, "--out", "view.png"])
    export = quote_command(["sa2va", "export", result.handle, *store, "--out", "DIR"])
    steps = [f"To look at it: {view}"]
    return steps if output.out else [*steps, f"To save masks and an overlay: {export}"]
