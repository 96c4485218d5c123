"""The engine's progress as bars on stderr, one per stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from sa2va_tools.progress import Progress, ProgressCallback


@contextlib.contextmanager
def stage_bars() -> Iterator[ProgressCallback]:
    """A callback that draws what it is told; the bars vanish when the work is done."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def on_progress(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, total=progress.total)
            # Where the total is known, the bar itself counts.
            words = progress.stage if progress.total is not None else progress.message or progress.stage
            bars.update(
                tasks[progress.stage],
                completed=progress.done,
                total=progress.total,
                description=words,
            )

        yield on_progress
