"""Pictures of tools for models that take none from a tool, such as OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

_PICTURE_TYPES = ("image", "image_url")
_NOTE = "The picture of this result follows in the next user message."


def move_pictures(messages: Iterable[BaseMessage]) -> list[Any]:
    """The messages as such a model takes them: pictures of tool messages move into a user message.

    It comes after the last tool message of a turn, because no other message may stand between them. The
    given messages stay as they are, so that an agent's state and checkpoints need not change: apply this to
    what is sent to the model.
    """
    moved: list[BaseMessage] = []
    waiting: list[Any] = []
    for message in messages:
        if not isinstance(message, ToolMessage):
            moved += _show(waiting)
            waiting = []
            moved.append(message)
            continue
        pictures = [block for block in _blocks(message) if _is_picture(block)]
        if pictures:
            name = f" of {message.name}" if message.name else ""
            title = f"Picture{name}, call {message.tool_call_id}:"
            waiting += [_make_text(title), *pictures]
            rest = [block for block in _blocks(message) if not _is_picture(block)]
            message = message.model_copy(update={"content": [*rest, _make_text(_NOTE)]})
        moved.append(message)
    return moved + _show(waiting)


def _show(blocks: list[Any]) -> list[BaseMessage]:
    return [HumanMessage(content=blocks)] if blocks else []


def _make_text(text: str) -> dict[str, str]:
    # Without the id that LangChain's own function adds, because that would reach OpenAI, which knows none.
    return {"type": "text", "text": text}


def _blocks(message: ToolMessage) -> list[Any]:
    return message.content if isinstance(message.content, list) else []


def _is_picture(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") in _PICTURE_TYPES
