"""Run a tool with arguments of the command line, and show its result as text, JSON or files.

A command imports this when it runs, so that `sa2va --help` stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from sa2va_server.cli.commands import EXIT_FAILED, error_json, print_error
from sa2va_server.cli.export import prepare_folder, write_masks
from sa2va_server.cli.flags import OutputFlags
from sa2va_server.cli.rle_json import add_rles, require_json
from sa2va_server.cli.session import Session
from sa2va_server.cli.text import format_files, format_result
from sa2va_tools.errors import RequestError, Sa2vaError
from sa2va_tools.tools.catalogue import find_tool
from sa2va_tools.tools.outputs import GroundResult, MasksResult


def run_tool(session: Session, name: str, raw: Mapping[str, Any], output: OutputFlags) -> None:
    """Run the tool, write its masks if a folder is given, and print the result. A failure to write does not
    lose the result."""
    tool = find_tool(name)
    arguments = tool.parse(raw)
    if output.formats and output.out is None:
        raise RequestError("--format needs --out.", hint="Add --out DIR.")
    require_json(wants_rle=output.rle_in_json, as_json=session.as_json)
    files: dict[str, str] = {}
    failure: Sa2vaError | None = None
    with prepare_folder(output.out), session.open_engine() as engine, session.open_run() as run:
        returned = tool.run(engine, arguments, run)
        result = returned.structured
        document = returned.as_dict() or {}
        if output.rle_in_json:
            add_rles(engine, document)
        if output.out is not None and isinstance(result, MasksResult | GroundResult):
            try:
                files = write_masks(engine, [result.handle], output.out, output.formats, run)
            except Sa2vaError as error:
                if run.cancelled:
                    raise
                error.hint = f"{error.hint} The result itself is stored as {result.handle}.".strip()
                failure = error
    if session.as_json:
        if output.out is not None:
            document["files"] = files
        if failure is not None:
            document["error"] = error_json(failure)
        session.print_json(document)
    else:
        session.print_lines([*format_result(result), *_suggest_next(session, result, files, output)])
    if failure is not None:
        print_error(session, failure)
        raise typer.Exit(EXIT_FAILED)


def _suggest_next(
    session: Session, result: object, files: Mapping[str, str], output: OutputFlags
) -> list[str]:
    """For a result with masks: the files, or how to look at the masks."""
    if not isinstance(result, MasksResult | GroundResult):
        return []
    has_masks = any(mask.found for mask in result.masks)
    if files:
        return format_files(files) if has_masks else ["Nothing was found.", *format_files(files)]
    if not has_masks:
        return ["Nothing was found, so there is nothing to view."]
    store = f" --store {session.flags.store_dir}" if session.flags.store_dir else ""
    steps = [f"To look at it: sa2va view {result.handle}{store} --out view.png"]
    save = f"To save masks and an overlay: sa2va export {result.handle}{store} --out DIR"
    return steps if output.out else [*steps, save]
