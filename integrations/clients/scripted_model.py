"""A model that follows a script: it calls tools in a fixed order, with handles that it read in results."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clients.conversation import Exchange, ModelRequest, OfferedTool, Recording, ToolCall

MASK_HANDLE = re.compile(r"mask:[a-z2-7]{10,52}")
FINAL_ANSWER = "final_answer"
"""Some frameworks end a conversation with a tool of this name instead of with text."""


@dataclass(frozen=True)
class Step:
    """One call of the script. `make_arguments` gets the text that the model has read so far and returns None
    if something that it needs was not in it."""

    name: str
    tool: str
    make_arguments: Callable[[str, OfferedTool], Mapping[str, Any] | None]


@dataclass
class ScriptedModel:
    """Answers requests in the order of `steps`, then with a last sentence, and records everything."""

    steps: Sequence[Step]
    recording: Recording = field(default_factory=Recording)
    _next: int = 0
    _began: float = field(default_factory=time.monotonic)

    def answer(self, request: ModelRequest) -> ToolCall | str:
        """The next call of the script, or text when it is over. A request without tools is a side question of
        the framework (a title, a plan) and uses no step."""
        step, answer = self._choose(request) if request.tools else ("", "All right.")
        seconds = time.monotonic() - self._began
        self.recording.exchanges.append(Exchange(request, answer, round(seconds, 1), step))
        return answer

    def _choose(self, request: ModelRequest) -> tuple[str, ToolCall | str]:
        text = "\n".join(
            part.content for message in request.messages for part in message.parts if part.kind == "text"
        )
        while self._next < len(self.steps):
            step = self.steps[self._next]
            self._next += 1
            tool = request.find_tool(step.tool)
            arguments = None if tool is None else step.make_arguments(text, tool)
            if tool is not None and arguments is not None:
                return step.name, ToolCall(tool.name, fill_required(tool.schema, arguments))
        last_words = "The script is over."
        if final := request.find_tool(FINAL_ANSWER):
            return "", ToolCall(final.name, {"answer": last_words})
        return "", last_words


def make_script(clip: str, *, long: bool = False) -> list[Step]:
    """The usual script; or, with `long`, a call that takes time, a short one, and the first one again."""
    segment = _give_always(media=clip, expressions=["the red circle"])
    if long:
        return [
            Step("long call", "segment_by_text", segment),
            Step("short call", "view", _give_always(handles=[clip], max_frames=1)),
            Step("same again", "segment_by_text", segment),
        ]
    return [
        Step("segment", "segment_by_text", segment),
        Step("view", "view", _view_first_mask),
        Step(
            "caption",
            "caption_region",
            _give_always(media=clip, regions=[{"box_xyxy": [350, 240, 500, 380]}], frame_index=0),
        ),
        Step("nulls", "describe", lambda _, tool: fill_all(tool.schema, {"media": clip})),
        Step("error", "describe", _give_always(media=clip.replace(".mp4", "-missing.mp4"))),
    ]


def _give_always(**arguments: Any) -> Callable[[str, OfferedTool], Mapping[str, Any]]:
    return lambda _text, _tool: arguments


def _view_first_mask(text: str, _: OfferedTool) -> Mapping[str, Any] | None:
    handle = MASK_HANDLE.search(text)
    return None if handle is None else {"handles": [handle.group()]}


def fill_required(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with all that the schema requires, as strict mode forces a model to give them."""
    return _fill(schema, arguments, schema.get("required", ()))


def fill_all(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with null for every other one."""
    return dict.fromkeys(schema.get("properties", {})) | dict(arguments)


def _fill(schema: Mapping[str, Any], given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    filled = {name: _empty(properties.get(name, {})) for name in names if name not in given}
    return filled | {name: _fill_value(properties.get(name, {}), value) for name, value in given.items()}


def _fill_value(schema: Mapping[str, Any], value: Any) -> Any:
    """The value, with what is required inside its objects."""
    if isinstance(value, Mapping):
        form = _find_form(schema, "properties")
        return _fill(form, value, form.get("required", ()))
    if isinstance(value, list):
        form = _find_form(schema, "items")
        return [_fill_value(form.get("items", {}), item) for item in value]
    return value


def _find_form(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The schema itself, or the one of its alternatives that has the key."""
    forms: list[Mapping[str, Any]] = [schema, *schema.get("anyOf", ())]
    return next((each for each in forms if each.get(key)), {})


def _empty(schema: Mapping[str, Any]) -> Any:
    """What a model gives for an argument that it must give and has no use for."""
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    kinds += [each.get("type") for each in schema.get("anyOf", ())]
    choices = schema.get("enum", ())
    if "null" in kinds or None in choices or schema.get("nullable"):
        return None
    if "default" in schema or choices:
        return schema.get("default", next(iter(choices), None))
    if "object" in kinds:
        return fill_required(schema, {})
    by_kind: dict[str, Any] = {"array": [], "integer": 0, "number": 0, "boolean": False}
    return by_kind.get(kinds[0] if kinds else "", "")
