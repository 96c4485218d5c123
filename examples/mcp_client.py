"""An MCP client that starts the server, lists its tools and calls one. Needs the clip of `sa2va demo`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters

FOLDER = Path("sa2va-demo").resolve()
SERVER = StdioServerParameters(
    command=sys.executable,
    args=["-m", "sa2va_server.cli", "mcp", "--root", str(FOLDER)],
    env=dict(os.environ),  # without it a client passes on a few variables only, none of SA2VA_*
)


async def main() -> None:
    async with Client(SERVER) as client:
        listed = await client.list_tools()
        print(", ".join(tool.name for tool in listed.tools))
        arguments = {"media": str(FOLDER / "clip.mp4"), "expressions": ["the red circle"]}
        result = await client.call_tool("segment_by_text", arguments)
        print(result.content[0].text)


asyncio.run(main())
