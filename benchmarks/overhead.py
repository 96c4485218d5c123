"""What the tool layer costs: one segment call made directly, as a tool, and over MCP in memory."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.clips import EXPRESSIONS
from sa2va_tools import Engine, Run
from sa2va_tools.tools.catalogue import find_tool

_TOOL = "segment_by_text"

Call = Callable[[], Awaitable[None]]


def measure_tool_overhead(engine: Engine, video: Path, *, repeats: int) -> dict[str, Any]:
    """The fastest call of each way and its ratio to the engine alone. The ways take turns, and all of them
    find the clip in the engine's cache. Without the extra [server], MCP is left out. Closes the engine at the
    end."""
    with engine:
        seconds = asyncio.run(_measure_in_turns(engine, video, repeats))
    return {"repeats": repeats, **_summarize(seconds)}


async def _measure_in_turns(engine: Engine, video: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds by way. The first round, which loads the model and encodes the clip, does not count."""
    seconds: dict[str, list[float]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        ways = _direct_calls(engine, video)
        if find_spec("mcp") is not None:
            ways["mcp"] = await _connect_mcp(stack, engine, video)
        for number in range(repeats + 1):
            for name, call in ways.items():
                began = time.perf_counter()
                await call()
                if number > 0:
                    seconds[name].append(time.perf_counter() - began)
    return seconds


def _direct_calls(engine: Engine, video: Path) -> dict[str, Call]:
    tool = find_tool(_TOOL)

    async def call_engine() -> None:
        engine.segment(video, EXPRESSIONS[0])

    async def call_tool() -> None:
        tool.run(engine, tool.parse(_arguments(video)), Run()).as_dict()

    return {"engine": call_engine, "tool": call_tool}


async def _connect_mcp(stack: AsyncExitStack, engine: Engine, video: Path) -> Call:
    # Imported here, so that the other benchmarks run without the extra [server].
    from mcp.client import Client

    from sa2va_server.mcp.server import CatalogueServer

    client = await stack.enter_async_context(Client(CatalogueServer(engine)))

    async def call_mcp() -> None:
        answer = await client.call_tool(_TOOL, _arguments(video))
        if answer.is_error:
            raise RuntimeError(f"The tool failed over MCP: {answer.content}")

    return call_mcp


def _arguments(video: Path) -> dict[str, Any]:
    return {"media": str(video), "expressions": [EXPRESSIONS[0]]}


def _summarize(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Of the fastest calls: what else the machine does adds time, and more than the layers do."""
    alone = min(seconds["engine"])
    summary = {"engine_ms": round(1000 * alone, 2)}
    for name, values in seconds.items():
        if name != "engine":
            more = min(values) - alone
            summary[f"{name}_more_ms"] = round(1000 * more, 2)
            summary[f"{name}_ratio"] = round(1 + more / alone, 4)
    return summary
