"""AutoGen's AssistantAgent with McpWorkbench."""

from __future__ import annotations

import asyncio
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelFamily
from autogen_core.tools import TextResultContent, ToolResult
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams

from clients.trial import API_KEY, TASK, Trial, read_trial


class TextWorkbench(McpWorkbench):
    """Leaves out pictures, which AssistantAgent would give to the model as base64. The text beside them says
    where they lie."""

    async def call_tool(self, *args: Any, **options: Any) -> ToolResult:
        answer = await super().call_tool(*args, **options)
        texts = [part for part in answer.result if isinstance(part, TextResultContent)]
        return answer.model_copy(update={"result": texts})


async def main(trial: Trial) -> None:
    limit = {} if trial.limit_s is None else {"read_timeout_seconds": trial.limit_s}
    server = StdioServerParams(
        command=trial.command,
        args=list(trial.args),
        env=dict(trial.env),
        **limit,  # the default is 5 seconds
    )
    model = OpenAIChatCompletionClient(
        model="scripted",
        base_url=trial.openai_url,
        api_key=API_KEY,
        max_retries=0,
        model_info={
            "vision": True,
            "function_calling": True,
            "json_output": True,
            "family": ModelFamily.UNKNOWN,
            "structured_output": True,
        },
    )
    workbench_class = TextWorkbench if trial.variant == "texts" else McpWorkbench
    async with workbench_class(server) as workbench:
        agent = AssistantAgent("finder", model_client=model, workbench=workbench, max_tool_iterations=20)
        result = await agent.run(task=TASK)
        print(result.messages[-1].to_text())
    await model.close()


asyncio.run(main(read_trial()))
