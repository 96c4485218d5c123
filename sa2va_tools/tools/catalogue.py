"""The list of tools. Every front end loops over it; what is not here is offered nowhere."""

from __future__ import annotations

import difflib
from typing import Any

from sa2va_tools.errors import RequestError
from sa2va_tools.tools import caption, describe, ground, segment, track, view
from sa2va_tools.tools.base import Tool

CATALOGUE: tuple[Tool[Any], ...] = (
    describe.TOOL,
    segment.TOOL,
    ground.TOOL,
    caption.TOOL,
    track.TOOL,
    view.TOOL,
)


def tool_named(name: str) -> Tool[Any]:
    """RequestError, with the names that exist, when there is none of that name."""
    for tool in CATALOGUE:
        if tool.name == name:
            return tool
    names = [tool.name for tool in CATALOGUE]
    near = difflib.get_close_matches(name, names, n=1)
    suggestion = f" Did you mean {near[0]!r}?" if near else ""
    raise RequestError(f"There is no tool {name!r}.{suggestion}", hint=f"Tools: {', '.join(names)}.")
