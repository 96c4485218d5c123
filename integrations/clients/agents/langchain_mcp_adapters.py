"""LangChain's create_agent with langchain-mcp-adapters."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from langchain_openai import ChatOpenAI

from clients.agents.langchain_pictures import MovePictures
from clients.trial import API_KEY, TASK, Trial, read_trial


async def main(trial: Trial) -> None:
    limit = {} if trial.limit_s is None else {"read_timeout_seconds": timedelta(seconds=trial.limit_s)}
    server = {
        "transport": "stdio",
        "command": trial.command,
        "args": list(trial.args),
        "env": dict(trial.env),
        "session_kwargs": limit,  # the default is no limit
    }
    model = ChatOpenAI(
        model="scripted",
        base_url=trial.openai_url,
        api_key=API_KEY,
        max_retries=0,
        use_responses_api=trial.variant == "responses",
    )
    client = MultiServerMCPClient({"sa2va": server})
    # One session for all calls: with `client.get_tools()`, each call starts a server, which loads the model.
    middleware = [] if trial.variant == "responses" else [MovePictures()]
    async with client.session("sa2va") as session:
        agent = create_agent(model, await load_mcp_tools(session), middleware=middleware)
        answer = await agent.ainvoke({"messages": [("user", TASK)]})
        print(answer["messages"][-1].text)


asyncio.run(main(read_trial()))
