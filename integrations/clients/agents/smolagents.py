"""smolagents' ToolCallingAgent with MCPClient."""

from __future__ import annotations

from mcp import StdioServerParameters
from smolagents import MCPClient, OpenAIModel, ToolCallingAgent

from clients.trial import API_KEY, TASK, Trial, read_trial


def main(trial: Trial) -> None:
    server = StdioServerParameters(command=trial.command, args=list(trial.args), env=dict(trial.env))
    # The default is meant to be 5 seconds, but mcpadapt 0.1.19 ignores whole numbers: there is no limit.
    limit = {} if trial.limit_s is None else {"client_session_timeout_seconds": float(trial.limit_s)}
    model = OpenAIModel(
        "scripted", api_base=trial.openai_url, api_key=API_KEY, client_kwargs={"max_retries": 0}
    )
    structured = trial.variant == "structured"
    with MCPClient(server, adapter_kwargs=limit, structured_output=structured) as tools:
        print(ToolCallingAgent(tools, model).run(TASK))


main(read_trial())
