"""The base of all tools (name, description, arguments, result, `run`), and the engine that they share.

Front ends loop over tools; a tool knows nothing about front ends and their protocols. No tool changes what
the user owns (results go into the store) or reaches beyond this machine.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic

from pydantic import ValidationError

from sa2va_tools.engine.call_threads import CallThreads
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import Sa2vaError
from sa2va_tools.memory_errors import translate_memory_errors
from sa2va_tools.run import Run
from sa2va_tools.tools.arguments import Arguments
from sa2va_tools.tools.explaining import explain
from sa2va_tools.tools.outputs import Traced
from sa2va_tools.tools.schema import Schema, arguments_schema, result_schema, strict_arguments_schema
from sa2va_tools.wording import TOOLS

EngineSource = Engine | Callable[[], Engine]
"""An engine, or what opens one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded image for the agent's eyes."""

    data: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a call gives: structured content that stands alone, the same in words, and pictures."""

    structured: Traced | None
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


@dataclass(frozen=True, slots=True)
class Tool(Generic[Arguments]):
    """One ability, declared once for every front end."""

    name: str
    title: str
    description: str
    arguments: type[Arguments]
    result: type[Traced] | None
    """None: the result is content only (a picture and a legend)."""
    work: Callable[[Engine, Arguments, Run], ToolOutput]

    def input_schema(self, *, strict: bool = False) -> Schema:
        """JSON schema of the arguments; `strict` in the form that OpenAI's strict mode requires."""
        return strict_arguments_schema(self.arguments) if strict else arguments_schema(self.arguments)

    def output_schema(self) -> Schema | None:
        """JSON schema of the structured result."""
        return None if self.result is None else result_schema(self.result)

    def parse(self, raw: Mapping[str, Any]) -> Arguments:
        """The arguments, checked. RequestError says what is wrong and what is allowed."""
        with _spell_errors():
            try:
                return self.arguments.model_validate(dict(raw))
            except ValidationError as error:
                raise explain(error, self.arguments) from error

    def run(self, engine: Engine, arguments: Arguments, run: Run) -> ToolOutput:
        """Do the work. Raises errors of `sa2va_tools.errors`, and for a lack of memory no library's own."""
        with _spell_errors(), translate_memory_errors():
            return _note_origin(self.work(engine, arguments, run))


def _note_origin(output: ToolOutput) -> ToolOutput:
    """The words, too, say that nothing was computed."""
    if output.structured is None or not output.structured.provenance.from_store:
        return output
    seconds = output.structured.provenance.seconds
    note = f"From the store: the same call was computed before, in {seconds:.1f} s."
    return replace(output, text=f"{output.text}\n{note}")


@contextlib.contextmanager
def _spell_errors() -> Iterator[None]:
    """Errors leave this block in the words of tools."""
    try:
        yield
    except Sa2vaError as error:
        error.spell(TOOLS)
        raise


class SharedEngine:
    """One engine for many tools: opened when first needed, closed once; for any thread.

    A copy is the same one. In another process it opens an engine of its own, by the same source.
    """

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self.threads = CallThreads()
        """For callers that use asyncio."""

    def __copy__(self) -> SharedEngine:
        return self

    def __deepcopy__(self, _: object) -> SharedEngine:
        return self

    def __reduce__(self) -> tuple[type[SharedEngine], tuple[EngineSource]]:
        return SharedEngine, (self._source,)

    def get(self) -> Engine:
        """The engine. Raises what the source raises; the next call tries again."""
        with self._lock:
            if self._engine is None:
                self._engine = self._source if isinstance(self._source, Engine) else self._source()
            return self._engine

    def close(self) -> None:
        with self._lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None
