"""OpenAI's Agents SDK with MCPServerStdio."""

from __future__ import annotations

import asyncio

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, RunConfig, Runner
from agents.mcp import MCPServerStdio
from agents.run import CallModelData, ModelInputData
from openai import AsyncOpenAI

from clients.trial import API_KEY, TASK, Trial, read_trial


def show_pictures(data: CallModelData[None]) -> ModelInputData:
    """Show the model the pictures of tools' results in a user message that follows the results; chat
    completions drop them where they are."""
    items, pictures = [], []
    for item in data.model_data.input:
        output = item.get("output") if item.get("type") == "function_call_output" else None
        if output is None and pictures:
            items.append({"role": "user", "content": pictures})
            pictures = []
        if isinstance(output, list):
            pictures += [part for part in output if part["type"] == "input_image"]
            item = item | {"output": [part for part in output if part["type"] != "input_image"]}
        items.append(item)
    if pictures:
        items.append({"role": "user", "content": pictures})
    return ModelInputData(input=items, instructions=data.model_data.instructions)


async def main(trial: Trial) -> None:
    limit = {} if trial.limit_s is None else {"client_session_timeout_seconds": trial.limit_s}
    server = MCPServerStdio(
        params={"command": trial.command, "args": list(trial.args), "env": dict(trial.env)},
        **limit,  # the default is 5 seconds
    )
    client = AsyncOpenAI(base_url=trial.openai_url, api_key=API_KEY, max_retries=0)
    is_chat = trial.variant.startswith("chat")
    model_class = OpenAIChatCompletionsModel if is_chat else OpenAIResponsesModel
    show = show_pictures if trial.variant == "chat with pictures" else None
    async with server:
        agent = Agent(
            name="finder",
            model=model_class(model="scripted", openai_client=client),
            mcp_servers=[server],
            mcp_config={"convert_schemas_to_strict": trial.variant == "strict"},
        )
        result = await Runner.run(
            agent, TASK, max_turns=20, run_config=RunConfig(call_model_input_filter=show)
        )
        print(result.final_output)


asyncio.run(main(read_trial()))
