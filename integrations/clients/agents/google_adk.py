"""Google's Agent Development Kit with McpToolset."""

from __future__ import annotations

import asyncio
import base64

from google.adk.agents import LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.models import LlmRequest
from google.adk.models.google_llm import Gemini
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StdioConnectionParams
from google.genai import types
from mcp import StdioServerParameters

from clients.trial import TASK, Trial, read_trial


def show_pictures(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """Show the model the pictures of tools' results in a message that follows the results; else they are text
    in JSON."""
    contents = []
    for content in llm_request.contents:
        moved = [move_pictures(part) for part in content.parts or []]
        contents.append(content.model_copy(update={"parts": [part for part, _ in moved]}))
        if pictures := [picture for _, pictures in moved for picture in pictures]:
            contents.append(types.Content(role="user", parts=pictures))
    llm_request.contents = contents


def move_pictures(part: types.Part) -> tuple[types.Part, list[types.Part]]:
    """(the part without pictures in its response, the pictures)"""
    answer = part.function_response
    items = ((answer and answer.response) or {}).get("content")
    if not isinstance(items, list):
        return part, []
    pictures = [
        types.Part.from_bytes(data=base64.b64decode(item["data"]), mime_type=item["mimeType"])
        for item in items
        if item["type"] == "image"
    ]
    rest = answer.response | {"content": [item for item in items if item["type"] != "image"]}
    answer = answer.model_copy(update={"response": rest})
    return part.model_copy(update={"function_response": answer}), pictures


async def main(trial: Trial) -> None:
    limit = {} if trial.limit_s is None else {"timeout": trial.limit_s}
    toolset = McpToolset(
        connection_params=StdioConnectionParams(
            server_params=StdioServerParameters(
                command=trial.command, args=list(trial.args), env=dict(trial.env)
            ),
            **limit,  # the default is 5 seconds; it holds for calls, too
        )
    )
    model = Gemini(model="gemini-scripted", base_url=trial.model_url)
    show = show_pictures if trial.variant == "pictures" else None
    agent = LlmAgent(name="finder", model=model, tools=[toolset], before_model_callback=show)
    runner = InMemoryRunner(agent)
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id="user")
    task = types.Content(role="user", parts=[types.Part(text=TASK)])
    async for event in runner.run_async(user_id="user", session_id=session.id, new_message=task):
        if event.is_final_response() and event.content:
            print(event.content.parts[0].text)
    await toolset.close()


asyncio.run(main(read_trial()))
