"""The list of tools. Every front end loops over it; what is not here is offered nowhere."""

from __future__ import annotations

import difflib
from typing import Any

from sa2va_tools.errors import RequestError
from sa2va_tools.tools.base import Tool
from sa2va_tools.tools.regions import CAPTION, TRACK
from sa2va_tools.tools.view import VIEW
from sa2va_tools.tools.words import DESCRIBE, GROUND, SEGMENT

CATALOGUE: tuple[Tool[Any], ...] = (DESCRIBE, SEGMENT, GROUND, CAPTION, TRACK, VIEW)


def find_tool(name: str) -> Tool[Any]:
    """The tool of that name. RequestError, with the names that exist, if there is none."""
    for tool in CATALOGUE:
        if tool.name == name:
            return tool
    names = [tool.name for tool in CATALOGUE]
    near = difflib.get_close_matches(name, names, n=1)
    suggestion = f" Did you mean {near[0]!r}?" if near else ""
    raise RequestError(f"There is no tool {name!r}.{suggestion}", hint=f"Tools: {', '.join(names)}.")
