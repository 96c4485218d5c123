"""One command on several images and videos: one engine, one table or JSON document, the highest exit code.

A failure with one of them does not stop the rest. What would fail with all of them (a wrong option, a
checkpoint that cannot be loaded) does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import typer

from sa2va_server.cli.commands import EXIT_FAILED, as_sa2va_error, error_json, find_exit_code, print_error
from sa2va_server.cli.export import prepare_folder, require_no_file
from sa2va_server.cli.flags import OutputFlags, ReadingFlags
from sa2va_server.cli.session import Session
from sa2va_server.cli.sources import name_folders
from sa2va_server.cli.text import format_row, format_rows
from sa2va_server.cli.tool_command import Outcome, check_output, do_tool
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import CancelledError, CheckpointError, RequestError, Sa2vaError
from sa2va_tools.printable import make_printable, make_valid
from sa2va_tools.run import Progress
from sa2va_tools.tools.base import Tool
from sa2va_tools.tools.catalogue import find_tool

_MAX_NAMED = 3
MakeArguments = Callable[[str], Mapping[str, Any]]
"""A source → the tool's arguments."""


def run_on_each(
    session: Session,
    name: str,
    media: Sequence[str],
    make_arguments: MakeArguments,
    reading: ReadingFlags,
    output: OutputFlags,
) -> None:
    """Run the tool on each of the media. Rows are printed as soon as they are known, JSON at the end."""
    check_output(session, output)
    if output.out is not None:
        require_no_file(output.out)
    tool = find_tool(name)
    tool.parse(
        make_valid(make_arguments(media[0]))
    )  # what is wrong for all is told before anything is opened
    batch = _Batch(session, tool, reading, output, tuple(media))
    with session.open_engine() as engine:
        for number, (source, folder) in enumerate(zip(media, name_folders(media), strict=True), start=1):
            batch.add(engine, number, make_arguments(source), folder)
    if session.as_json:
        session.print_json({"results": batch.documents})
    else:
        session.print_lines(batch.format_end())
    if batch.exit_code:
        raise typer.Exit(batch.exit_code)


@dataclass(slots=True)
class _Batch:
    """What has been done so far."""

    session: Session
    tool: Tool[Any]
    reading: ReadingFlags
    output: OutputFlags
    media: tuple[str, ...]
    documents: list[dict[str, Any]] = field(default_factory=list)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    """Each warning once, with the sources that it is about."""
    folders: dict[str, str] = field(default_factory=dict)
    """Source → the folder with its files."""
    failed: int = 0
    exit_code: int = 0

    def add(self, engine: Engine, number: int, raw: Mapping[str, Any], folder: str) -> None:
        """Work on one source. Raises what would fail with the others, too."""
        source = self.media[number - 1]
        seen: set[str] = set()

        def note(progress: Progress) -> None:
            seen.add(progress.stage)

        try:
            out = None if self.output.out is None else self.output.out / folder
            with prepare_folder(out), self.session.open_run(note) as run:
                run.report("file", number, len(self.media), source)
                outcome = do_tool(engine, self.tool, raw, self.reading, replace(self.output, out=out), run)
        except Exception as error:
            ours = as_sa2va_error(error)
            if self._concerns_all(ours, error, seen):
                raise
            self._add_failure(source, ours)
        else:
            self._add_outcome(source, outcome, out is not None)

    def _concerns_all(self, ours: Sa2vaError, error: Exception, seen: set[str]) -> bool:
        if self.session.stops.received or isinstance(error, ModuleNotFoundError):
            return True
        # Before the media is opened, only what all have in common has been looked at.
        is_wrong_option = isinstance(ours, RequestError) and "open" not in seen
        return is_wrong_option or isinstance(ours, CancelledError | CheckpointError)

    def _add_outcome(self, source: str, outcome: Outcome, has_files: bool) -> None:
        self.documents.append({"source": source, **outcome.as_document(with_files=has_files)})
        if not self.session.as_json:
            self.session.print_lines(format_rows(self._label(source), outcome.result))
        for warning in outcome.result.warnings:
            self.warnings.setdefault(warning, []).append(source)
        if outcome.files:
            self.folders[source] = outcome.folder
        if outcome.failure is not None:
            self._note_failure(outcome.failure, EXIT_FAILED)

    def _add_failure(self, source: str, error: Sa2vaError) -> None:
        self._note_failure(error, find_exit_code(error))
        self.documents.append({"source": source, "error": error_json(error)})
        if not self.session.as_json:
            self.session.print_lines([format_row(self._label(source), "failed", error.message)])

    def _note_failure(self, error: Sa2vaError, code: int) -> None:
        self.failed += 1
        self.exit_code = max(self.exit_code, code)
        print_error(self.session, error)

    def _label(self, source: str) -> str:
        return f"{make_printable(source):<{max(len(make_printable(name)) for name in self.media)}}"

    def format_end(self) -> Iterable[str]:
        """What follows the table: warnings, each once, files, and how many failed."""
        done = len(self.media) - self.failed
        for warning, sources in self.warnings.items():
            about = "" if len(sources) == done else f" ({_list_names(sources)})"
            yield f"Warning{about}: {make_printable(warning)}"
        if self.folders:
            yield "Written:"
            yield from (
                f"  {self._label(source)}  {make_printable(path)}" for source, path in self.folders.items()
            )
        files = f"{len(self.media)} file{'' if len(self.media) == 1 else 's'}"
        yield files + (f", {self.failed} failed." if self.failed else ".")


def _list_names(sources: Sequence[str]) -> str:
    more = f" and {len(sources) - _MAX_NAMED} more" if len(sources) > _MAX_NAMED else ""
    return ", ".join(map(make_printable, sources[:_MAX_NAMED])) + more
