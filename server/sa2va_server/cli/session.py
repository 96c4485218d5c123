"""What a command works with: its common options, settings, engine, run, and where its results go.

Knows nothing of what a command does. Imports no engine until one is opened, so that `--help` stays quick.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from sa2va_server.cli.common_flags import CommonFlags
from sa2va_server.cli.stopping import StopSignals
from sa2va_tools.printable import make_valid
from sa2va_tools.run import Progress, ProgressCallback, Run

if TYPE_CHECKING:
    from sa2va_tools.engine.protocol import Engine
    from sa2va_tools.settings import Settings

OpenEngine = Callable[["Settings"], "Engine"]
"""Opens an engine. Tests pass their own as the `obj` of the app's context."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One call of one command."""

    flags: CommonFlags = field(default_factory=CommonFlags)
    opener: OpenEngine | None = None
    subcommand: str | None = None
    """For the call of a group: the name of the command that follows."""
    out: TextIO = field(default_factory=lambda: sys.stdout)
    """The real stdout. During the work, `sys.stdout` is stderr, so that libraries cannot print between the
    results."""
    stops: StopSignals = field(default_factory=StopSignals)

    @property
    def as_json(self) -> bool:
        return self.flags.as_json

    def settings(self) -> Settings:
        """The environment's settings, overridden by the options. RequestError names one that is wrong."""
        from sa2va_tools.settings import Settings

        given = {name: value for name, value in asdict(self.flags).items() if value is not None}
        return Settings.read(
            **{name: value for name, value in given.items() if name in Settings.model_fields}
        )

    def open_engine(self, settings: Settings | None = None) -> Engine:
        """An engine that may read whatever the user names."""
        settings = settings or self.settings()
        if self.opener is not None:
            return self.opener(settings)
        from sa2va_tools.engine.loading import load_engine

        return load_engine(settings=settings)

    @contextlib.contextmanager
    def open_run(self, listen: ProgressCallback | None = None) -> Iterator[Run]:
        """A run with progress bars (on a terminal) that Ctrl-C and similar signals stop. `listen` gets each
        report, too."""
        with contextlib.ExitStack() as stack:
            has_bars = not self.flags.quiet and not self.as_json and sys.stderr.isatty()
            draw = stack.enter_context(open_bars()) if has_bars else None
            hear = [callback for callback in (draw, listen) if callback is not None]

            def report(progress: Progress) -> None:
                for callback in hear:
                    callback(progress)

            yield stack.enter_context(self.stops.watch(report))

    def print_lines(self, lines: Iterable[str]) -> None:
        """Write lines of the result to the real stdout."""
        for line in lines:
            self.out.write(line + "\n")
        self.out.flush()

    def print_json(self, document: Any) -> None:
        """Write one JSON document to the real stdout."""
        self.print_lines([json.dumps(make_valid(document), ensure_ascii=True, indent=2)])


@contextlib.contextmanager
def open_bars() -> Iterator[ProgressCallback]:
    """A callback that draws each report as progress bars on stderr, one per stage. They disappear at the end
    of the block."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import Progress as Bars

    words = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), words, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def draw(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, total=progress.total)
            # With a known total the bar itself counts, so the message is not needed.
            message = "" if progress.total is not None else progress.message
            bars.update(
                tasks[progress.stage],
                completed=progress.done,
                total=progress.total,
                description=message or progress.stage,
            )

        yield draw
