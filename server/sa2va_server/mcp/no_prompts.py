"""That the server has no prompts: the SDK would announce them, and log a traceback if one is asked for."""

from __future__ import annotations

from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS


async def hide_prompts(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Take prompts out of what the server says it can do. A list of them is still answered: it is empty."""
    result = await call_next(ctx)
    if ctx.method in ("initialize", "server/discover") and isinstance(result, dict):
        capabilities = {name: value for name, value in result["capabilities"].items() if name != "prompts"}
        return {**result, "capabilities": capabilities}
    return result


def unknown_prompt_error(name: str) -> MCPError:
    """For any name."""
    return MCPError(INVALID_PARAMS, f"Unknown prompt: {name}. This server has tools, but no prompts.")
