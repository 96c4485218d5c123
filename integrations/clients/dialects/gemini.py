"""Gemini's generateContent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from clients.conversation import Message, ModelRequest, OfferedTool, Part, ToolCall

PATH = ":generateContent"


def read_request(body: Mapping[str, Any]) -> ModelRequest:
    """The request in our form. Field names come in both spellings."""
    tools = [
        each
        for group in body.get("tools") or ()
        for each in _get(group, "functionDeclarations", "function_declarations", [])
    ]
    return ModelRequest(
        tuple(_read_messages(body)),
        tuple(
            OfferedTool(
                each["name"],
                _get(each, "parametersJsonSchema", "parameters_json_schema", each.get("parameters", {})),
            )
            for each in tools
        ),
    )


def _get(holder: Mapping[str, Any], name: str, other: str, default: Any) -> Any:
    return holder.get(name, holder.get(other, default))


def _read_messages(body: Mapping[str, Any]) -> Iterator[Message]:
    instructions = _get(body, "systemInstruction", "system_instruction", {})
    if instructions:
        yield Message("instructions", tuple(_read_parts(instructions["parts"])))
    for content in body["contents"]:
        parts = [part for part in content["parts"] if not _get(part, "functionCall", "function_call", None)]
        answers = [part for part in parts if _get(part, "functionResponse", "function_response", None)]
        said = [part for part in parts if part not in answers]
        if said:
            yield Message("model" if content.get("role") == "model" else "user", tuple(_read_parts(said)))
        for part in answers:
            answer = _get(part, "functionResponse", "function_response", {})
            text = Part("text", json.dumps(answer["response"], ensure_ascii=False))
            yield Message("tool", (text, *_read_parts(answer.get("parts", []))))


def _read_parts(parts: list[Mapping[str, Any]]) -> Iterator[Part]:
    for part in parts:
        data = _get(part, "inlineData", "inline_data", None)
        yield Part("picture", data["data"]) if data else Part("text", part.get("text") or json.dumps(part))


def write_answer(answer: ToolCall | str, number: int) -> dict[str, Any]:
    """The answer as a candidate."""
    if isinstance(answer, str):
        part: dict[str, Any] = {"text": answer}
    else:
        part = {"functionCall": {"id": f"call_{number}", "name": answer.name, "args": dict(answer.arguments)}}
    return {
        "candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
        "modelVersion": "scripted",
    }
