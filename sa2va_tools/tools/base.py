"""What a tool is: a name, words for the agent, arguments, a result, and `run`.

Front ends loop over tools; a tool knows nothing of the front ends and their protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.progress import CancelToken, ProgressCallback
from sa2va_tools.tools.arguments import Arguments, parse_arguments
from sa2va_tools.tools.outputs import ToolResult
from sa2va_tools.tools.schema import Schema, arguments_schema, result_schema


@dataclass(frozen=True, slots=True)
class Hints:
    """What a tool does to the world, for clients that ask before they call."""

    read_only: bool = True
    """Changes nothing that the user owns (results are kept in the store)."""
    destructive: bool = False
    idempotent: bool = True
    open_world: bool = False
    """Reaches beyond this machine."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded image for the agent's eyes."""

    data: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a call gives: structured content that stands alone, the same in words, and pictures."""

    structured: ToolResult | None
    """None for tools whose result is a picture."""
    text: str
    pictures: tuple[Picture, ...] = ()

    def as_dict(self) -> dict[str, Any] | None:
        """The structured content as JSON values; fields without a value are left out."""
        return None if self.structured is None else self.structured.model_dump(mode="json", exclude_none=True)

    def mask_handles(self) -> tuple[str, ...]:
        """The masks that the result lists, each once, for front ends that can link to them."""
        content = self.as_dict() or {}
        listed = [*content.get("masks", ()), *content.get("regions", ())]
        return tuple(dict.fromkeys(item["handle"] for item in listed if "handle" in item))


Run = Callable[[Engine, Arguments, ProgressCallback, CancelToken], ToolOutput]


@dataclass(frozen=True, slots=True)
class Tool(Generic[Arguments]):
    """One ability, declared once for every front end."""

    name: str
    title: str
    description: str
    arguments: type[Arguments]
    result: type[ToolResult] | None
    """None: the result is content only (a picture and a legend)."""
    run: Run[Arguments]
    """Raises errors of `sa2va_tools.errors` only."""
    hints: Hints = field(default_factory=Hints)

    def input_schema(self) -> Schema:
        return arguments_schema(self.arguments)

    def output_schema(self) -> Schema | None:
        return None if self.result is None else result_schema(self.result)

    def parse(self, raw: Mapping[str, Any]) -> Arguments:
        """The arguments, checked. RequestError names what is wrong and what is allowed."""
        return parse_arguments(self.arguments, raw)
