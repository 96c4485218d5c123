"""For LangChain agents with OpenAI's chat completions, which take pictures only from the user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AnyMessage, HumanMessage, ToolMessage


class MovePictures(AgentMiddleware):
    """Shows the model the pictures of tools' results in a user message that follows the results."""

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        return await handler(request.override(messages=move_pictures(request.messages)))


def move_pictures(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The conversation with the pictures of consecutive tool messages in one user message after them."""
    moved: list[AnyMessage] = []
    pictures: list[dict] = []
    for message in messages:
        if not isinstance(message, ToolMessage) and pictures:
            moved.append(HumanMessage(content_blocks=pictures))
            pictures = []
        if isinstance(message, ToolMessage):
            pictures += [block for block in message.content_blocks if block["type"] == "image"]
            rest = [block for block in message.content_blocks if block["type"] != "image"]
            message = message.model_copy(update={"content": rest})
        moved.append(message)
    return [*moved, HumanMessage(content_blocks=pictures)] if pictures else moved
