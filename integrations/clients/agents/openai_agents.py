"""OpenAI's Agents SDK with MCPServerStdio."""

from __future__ import annotations

import asyncio

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner
from agents.mcp import MCPServerStdio
from openai import AsyncOpenAI

from clients.trial import API_KEY, TASK, Trial, read_trial


async def main(trial: Trial) -> None:
    limit = {} if trial.limit_s is None else {"client_session_timeout_seconds": trial.limit_s}
    server = MCPServerStdio(
        params={"command": trial.command, "args": list(trial.args), "env": dict(trial.env)},
        **limit,  # the default is 5 seconds
    )
    client = AsyncOpenAI(base_url=trial.openai_url, api_key=API_KEY, max_retries=0)
    model_class = OpenAIChatCompletionsModel if trial.variant == "chat" else OpenAIResponsesModel
    async with server:
        agent = Agent(
            name="finder",
            model=model_class(model="scripted", openai_client=client),
            mcp_servers=[server],
            mcp_config={"convert_schemas_to_strict": trial.variant == "strict"},
        )
        result = await Runner.run(agent, TASK, max_turns=20)
        print(result.final_output)


asyncio.run(main(read_trial()))
