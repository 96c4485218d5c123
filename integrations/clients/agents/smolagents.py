"""smolagents' ToolCallingAgent with MCPClient."""

from __future__ import annotations

import re
from pathlib import Path

from mcp import StdioServerParameters
from PIL import Image
from smolagents import ActionStep, MCPClient, OpenAIModel, ToolCallingAgent

from clients.trial import API_KEY, TASK, Trial, read_trial

PICTURE_PATH = re.compile(r"is the file (.+?\.jpg)")


def show_pictures(step: ActionStep, agent: ToolCallingAgent) -> None:
    """Show the model the pictures whose paths it has just read; MCPClient passes on only the text."""
    paths = PICTURE_PATH.findall(str(step.observations or ""))
    step.observations_images = [Image.open(path) for path in paths if Path(path).is_file()]


def main(trial: Trial) -> None:
    server = StdioServerParameters(command=trial.command, args=list(trial.args), env=dict(trial.env))
    # The default is meant to be 5 seconds, but mcpadapt 0.1.19 ignores whole numbers: there is no limit.
    limit = {} if trial.limit_s is None else {"client_session_timeout_seconds": float(trial.limit_s)}
    model = OpenAIModel(
        "scripted", api_base=trial.openai_url, api_key=API_KEY, client_kwargs={"max_retries": 0}
    )
    callbacks = [show_pictures] if trial.variant == "pictures" else []
    with MCPClient(server, adapter_kwargs=limit, structured_output=True) as tools:
        print(ToolCallingAgent(tools, model, step_callbacks=callbacks).run(TASK))


main(read_trial())
