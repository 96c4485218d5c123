"""`move_pictures` as middleware of `langchain.agents.create_agent`. Needs the package `langchain`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain_sa2va.pictures import move_pictures
from sa2va_tools.errors import MissingExtraError

try:
    from langchain.agents.middleware import AgentMiddleware
except ModuleNotFoundError:
    raise MissingExtraError("langchain", "agents") from None


class PictureMiddleware(AgentMiddleware):  # type: ignore[misc]
    """Shows the pictures of tools in user messages, to models that take none in tool messages.

    Only what is sent to the model changes, not the agent's state.
    """

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(request.override(messages=move_pictures(request.messages)))

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        return await handler(request.override(messages=move_pictures(request.messages)))
