"""Google's Agent Development Kit with McpToolset."""

from __future__ import annotations

import asyncio

from google.adk.agents import LlmAgent
from google.adk.models.google_llm import Gemini
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StdioConnectionParams
from google.genai import types
from mcp import StdioServerParameters

from clients.trial import TASK, Trial, read_trial


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
    agent = LlmAgent(name="finder", model=model, tools=[toolset])
    runner = InMemoryRunner(agent)
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id="user")
    task = types.Content(role="user", parts=[types.Part(text=TASK)])
    async for event in runner.run_async(user_id="user", session_id=session.id, new_message=task):
        if event.is_final_response() and event.content:
            print(event.content.parts[0].text)
    await toolset.close()


asyncio.run(main(read_trial()))
