"""LangChain's create_agent with langchain.mcp, which follows langchain-mcp-adapters (beta)."""

from __future__ import annotations

import asyncio

from fastmcp.client import Client
from fastmcp.client.transports import StdioTransport
from langchain.agents import create_agent
from langchain.mcp import MCPAdapter
from langchain_openai import ChatOpenAI

from clients.agents.langchain_pictures import MovePictures
from clients.trial import API_KEY, TASK, Trial, read_trial


async def main(trial: Trial) -> None:
    transport = StdioTransport(trial.command, list(trial.args), env=dict(trial.env))
    server = Client(transport, timeout=trial.limit_s)  # the default is no limit
    model = ChatOpenAI(
        model="scripted",
        base_url=trial.openai_url,
        api_key=API_KEY,
        max_retries=0,
        use_responses_api=trial.variant == "responses",
    )
    middleware = [] if trial.variant == "responses" else [MovePictures()]
    async with MCPAdapter(server) as adapter:
        agent = create_agent(model, await adapter.list_tools(), middleware=middleware)
        answer = await agent.ainvoke({"messages": [("user", TASK)]})
        print(answer["messages"][-1].text)


asyncio.run(main(read_trial()))
