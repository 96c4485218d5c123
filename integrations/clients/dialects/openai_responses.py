"""OpenAI's Responses API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from clients.conversation import Message, ModelRequest, OfferedTool, Part, Role, ToolCall

PATH = "/responses"
_ROLES: Mapping[str, Role] = {"system": "instructions", "developer": "instructions", "assistant": "model"}


def read_request(body: Mapping[str, Any]) -> ModelRequest:
    """The request in our form."""
    tools = (tool for tool in body.get("tools") or () if tool["type"] == "function")
    return ModelRequest(
        tuple(_read_messages(body)),
        tuple(OfferedTool(t["name"], t.get("parameters", {}), bool(t.get("strict"))) for t in tools),
    )


def _read_messages(body: Mapping[str, Any]) -> Iterator[Message]:
    if body.get("instructions"):
        yield Message("instructions", (Part("text", body["instructions"]),))
    items = body["input"]
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        if item.get("type") == "function_call_output":
            yield Message("tool", _read_content(item["output"]))
        elif "role" in item:
            yield Message(_ROLES.get(item["role"], "user"), _read_content(item["content"]))


def _read_content(content: Any) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Part("text", content),)
    return tuple(_read_part(part) for part in content)


def _read_part(part: Mapping[str, Any]) -> Part:
    if part["type"] in ("input_text", "output_text"):
        return Part("text", part["text"])
    if part["type"] == "input_image" and part["image_url"].startswith(("data:", "http")):
        return Part("picture", part["image_url"])
    return Part("refused", json.dumps(part))  # such as a file whose address the provider cannot fetch


def write_answer(answer: ToolCall | str, number: int) -> dict[str, Any]:
    """The answer as a response."""
    if isinstance(answer, str):
        text = {"type": "output_text", "text": answer, "annotations": []}
        item = {"type": "message", "role": "assistant", "content": [text]}
    else:
        item = {"type": "function_call", "call_id": f"call_{number}", "name": answer.name}
        item["arguments"] = json.dumps(answer.arguments)
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "model": "scripted",
        "output": [{"id": f"item_{number}", "status": "completed", **item}],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1,
            "output_tokens": 1,
            "total_tokens": 2,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }
