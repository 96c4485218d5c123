"""Progress of a call → a function of the user, callbacks, and the stream of a LangGraph graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from langchain_core.callbacks import CallbackManagerForToolRun

from sa2va_tools.run import Progress, ProgressCallback, Run

PROGRESS_EVENT = "sa2va_progress"
"""Name of the custom event with the fields of `sa2va_tools.Progress`, for callback handlers and
`astream_events`. In a graph's `stream_mode="custom"` it is the field `event`, beside `tool` and `run_id`."""


def start_run(
    tool: str, on_progress: ProgressCallback | None, run_manager: CallbackManagerForToolRun | None
) -> Run:
    """A run whose progress reaches everyone who listens. To be called where the tool was called: the graph
    is known there and not in other threads, while reports may come from any."""
    callbacks = None if run_manager is None else run_manager.get_child()
    write = _find_stream_writer()

    def report(progress: Progress) -> None:
        if on_progress is not None:
            on_progress(progress)
        fields = asdict(progress)
        if callbacks is not None:
            callbacks.on_custom_event(PROGRESS_EVENT, fields, run_id=callbacks.parent_run_id)
        if write is not None:
            run_id = None if callbacks is None else str(callbacks.parent_run_id)
            write({"event": PROGRESS_EVENT, "tool": tool, "run_id": run_id, **fields})

    return Run(report)


def _find_stream_writer() -> Callable[[Any], None] | None:
    """LangGraph's writer, inside a graph. LangGraph is no dependency; a graph that runs has imported it."""
    config = sys.modules.get("langgraph.config")
    if config is None:
        return None
    try:
        writer: Callable[[Any], None] = config.get_stream_writer()
    except (RuntimeError, KeyError):  # no runnable is running, or one that is not part of a graph
        return None
    return writer
