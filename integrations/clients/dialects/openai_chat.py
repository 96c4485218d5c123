"""OpenAI's chat completions, which take no pictures in the results of tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clients.conversation import Message, ModelRequest, OfferedTool, Part, Role, ToolCall

PATH = "/chat/completions"
_ROLES: Mapping[str, Role] = {
    "system": "instructions",
    "developer": "instructions",
    "assistant": "model",
    "tool": "tool",
}


def read_request(body: Mapping[str, Any]) -> ModelRequest:
    """The request in our form."""
    tools = (tool["function"] for tool in body.get("tools") or ())
    return ModelRequest(
        tuple(_read_message(message) for message in body["messages"]),
        tuple(OfferedTool(t["name"], t.get("parameters", {}), bool(t.get("strict"))) for t in tools),
    )


def _read_message(message: Mapping[str, Any]) -> Message:
    role = _ROLES.get(message["role"], "user")
    content = message.get("content") or ()
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return Message(role, tuple(_read_part(part, role) for part in parts))


def _read_part(part: Mapping[str, Any], role: Role) -> Part:
    if part["type"] == "text":
        return Part("text", part["text"])
    if part["type"] == "image_url" and role != "tool":
        return Part("picture", part["image_url"]["url"])
    return Part("refused", json.dumps(part))


def write_answer(answer: ToolCall | str, number: int) -> dict[str, Any]:
    """The answer as a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": answer if isinstance(answer, str) else None}
    if isinstance(answer, ToolCall):
        function = {"name": answer.name, "arguments": json.dumps(answer.arguments)}
        message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": function}]
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "stop" if isinstance(answer, str) else "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
