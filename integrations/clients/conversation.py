"""What a model reads and answers, in one form for all providers' APIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["instructions", "user", "model", "tool"]


@dataclass(frozen=True)
class Part:
    """A piece of a message: text, a picture as base64 or a data URL, or (as JSON) something that the
    provider's API refuses at this place, and the whole request with it."""

    kind: Literal["text", "picture", "refused"]
    content: str


@dataclass(frozen=True)
class Message:
    """Who speaks, and what is said. The model's own calls of tools are left out."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class OfferedTool:
    """A tool as it is offered to the model, with the schema of its arguments."""

    name: str
    schema: Mapping[str, Any]
    strict: bool = False


@dataclass(frozen=True)
class ModelRequest:
    """One request to the model: the whole conversation so far, and the tools that it may call."""

    messages: tuple[Message, ...]
    tools: tuple[OfferedTool, ...] = ()

    def find_tool(self, name: str) -> OfferedTool | None:
        """The tool of this name. Some frameworks put a prefix before it."""
        return next((tool for tool in self.tools if tool.name.endswith(name)), None)


@dataclass(frozen=True)
class ToolCall:
    """The model's answer if it calls a tool."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Exchange:
    """A request, the model's answer to it, and when it came: in seconds since the first request."""

    request: ModelRequest
    answer: ToolCall | str
    seconds: float = 0.0
    step: str = ""
    """The scripted step of the answer; empty for the last words and for side questions."""


@dataclass
class Recording:
    """All exchanges of one conversation, in order."""

    exchanges: list[Exchange] = field(default_factory=list)

    def read_after(self, step: str) -> list[Message] | None:
        """The messages that were new to the model in the request after its call of this step; None if the
        step was not reached or no request followed."""
        for index, exchange in enumerate(self.exchanges[:-1]):
            if exchange.step == step:
                return find_new(exchange.request.messages, self.exchanges[index + 1].request.messages)
        return None

    def offered_tools(self) -> Sequence[OfferedTool]:
        """The tools of the first request that offers any."""
        return next((each.request.tools for each in self.exchanges if each.request.tools), ())


def find_new(before: Sequence[Message], after: Sequence[Message]) -> list[Message]:
    """The messages of `after` with only those parts that `before` has not, whoever said them: some frameworks
    merge or rewrite messages. The model's own messages are left out."""
    known = [part for message in before for part in message.parts]
    found = []
    for message in after:
        fresh = []
        for part in message.parts:
            if part in known:
                known.remove(part)
            else:
                fresh.append(part)
        if fresh and message.role in ("user", "tool"):
            found.append(Message(message.role, tuple(fresh)))
    return found
