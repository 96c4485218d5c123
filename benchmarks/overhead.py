"""What the tool layer costs: one segment call directly, as the catalogue's tool, and over MCP in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client

from benchmarks.clips import EXPRESSIONS
from sa2va_server.mcp_server import build_server
from sa2va_tools import CancelToken, Engine
from sa2va_tools.progress import ignore_progress
from sa2va_tools.tools.catalogue import tool_named

_TOOL = "segment_by_text"


def tool_overhead(engine: Engine, video: Path, *, repeats: int) -> dict[str, Any]:
    """The fastest of calls that take turns, and each way's ratio to the engine alone; what the engine keeps
    of the clip is there for all of them. The engine is closed at the end."""
    return anyio.run(_measure, engine, video, repeats)


async def _measure(engine: Engine, video: Path, repeats: int) -> dict[str, Any]:
    expression, tool = EXPRESSIONS[0], tool_named(_TOOL)
    raw = {"media": str(video), "expressions": [expression]}
    took: dict[str, list[float]] = {"engine": [], "tool": [], "mcp": []}
    ways: tuple[tuple[str, Callable[[], object]], ...] = (
        ("engine", lambda: engine.segment(video, [expression])),
        ("tool", lambda: tool.run(engine, tool.parse(raw), ignore_progress, CancelToken()).as_dict()),
    )
    async with Client(build_server(engine)) as client:
        for number in range(repeats + 1):
            for name, call in ways:
                began = time.perf_counter()
                call()
                took[name].append(time.perf_counter() - began)
            began = time.perf_counter()
            answer = await client.call_tool(_TOOL, raw)
            took["mcp"].append(time.perf_counter() - began)
            if answer.is_error:
                raise RuntimeError(f"The tool failed over MCP: {answer.content}")
            if number == 0:  # loads the model, sees the clip
                for seconds in took.values():
                    seconds.clear()
    alone = min(took["engine"])
    frames = engine.segment(video, [expression]).provenance.frames
    made: dict[str, Any] = {"frames": frames, "repeats": repeats, "engine_ms": round(1000 * alone, 2)}
    for name in ("tool", "mcp"):
        # The fastest of each: what else the machine does can only add, and it adds more than the layers do.
        more = min(took[name]) - alone
        made[f"{name}_more_ms"] = round(1000 * more, 2)
        made[f"{name}_ratio"] = round(1 + more / alone, 4)
    return made
