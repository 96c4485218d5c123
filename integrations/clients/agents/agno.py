"""Agno's Agent with MCPTools."""

from __future__ import annotations

import asyncio

from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.tools.mcp import MCPTools
from mcp import StdioServerParameters

from clients.trial import API_KEY, TASK, Trial, read_trial


async def main(trial: Trial) -> None:
    server = StdioServerParameters(command=trial.command, args=list(trial.args), env=dict(trial.env))
    limit = {} if trial.limit_s is None else {"timeout_seconds": int(trial.limit_s)}
    model = OpenAIChat("scripted", base_url=trial.openai_url, api_key=API_KEY, max_retries=0)
    async with MCPTools(server_params=server, **limit) as tools:  # the default is 10 seconds
        answer = await Agent(model=model, tools=[tools]).arun(TASK)
        print(answer.content)


asyncio.run(main(read_trial()))
