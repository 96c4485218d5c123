"""An MCP client: start the server, list its tools, call one. Needs the clip that `sa2va demo` makes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters

FOLDER = Path("sa2va-demo").resolve()
SERVER = StdioServerParameters(
    command=sys.executable,
    args=["-m", "sa2va_server", "mcp", "--root", str(FOLDER)],
    env=dict(os.environ),  # by default, a client passes on only a few variables and no SA2VA_* settings
)


async def main() -> None:
    async with Client(SERVER) as client:
        listed = await client.list_tools()
        print(", ".join(tool.name for tool in listed.tools))
        arguments = {"media": str(FOLDER / "clip.mp4"), "expressions": ["the red circle"]}
        result = await client.call_tool("segment_by_text", arguments)
        print(result.content[0].text)


asyncio.run(main())
