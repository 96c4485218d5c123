"""CrewAI's Crew with MCPServerAdapter of crewai-tools, or (variant `mcps`) with CrewAI's own client."""

from __future__ import annotations

from crewai import LLM, Agent, Crew, Task
from crewai.mcp import MCPServerStdio
from crewai_tools import MCPServerAdapter
from mcp import StdioServerParameters

from clients.trial import API_KEY, TASK, Trial, read_trial


def work(trial: Trial, **tools: object) -> None:
    """Let a crew of one agent, which has these tools, do the task."""
    model = LLM(model="openai/gpt-4o", base_url=trial.openai_url, api_key=API_KEY, max_retries=0)
    agent = Agent(
        role="finder",
        goal="Find things in clips.",
        backstory="You look closely.",
        llm=model,
        max_iter=20,
        **tools,
    )
    task = Task(description=TASK, expected_output="What was found.", agent=agent)
    print(Crew(agents=[agent], tasks=[task]).kickoff())


def main(trial: Trial) -> None:
    if trial.variant == "mcps":  # each call may take 30 seconds; there is no option for it
        server = MCPServerStdio(command=trial.command, args=list(trial.args), env=dict(trial.env))
        work(trial, mcps=[server])
        return
    server = StdioServerParameters(command=trial.command, args=list(trial.args), env=dict(trial.env))
    with MCPServerAdapter(server) as tools:  # a call may take as long as it needs
        work(trial, tools=list(tools))


main(read_trial())
