"""The clients that are tried, and the forms in which each is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Client:
    """A client: the name of its script and its requirements, and the package whose version is told."""

    name: str
    package: str
    variants: tuple[str, ...] = ("",)
    time_limits: int = 1
    """How many of the variants, from the first, have different time limits; only these try a long call."""

    @property
    def requirements(self) -> Path:
        return FOLDER / "requirements" / f"{self.name}.txt"

    @property
    def script(self) -> Path:
        return FOLDER / "agents" / f"{self.name}.py"

    @property
    def module(self) -> str:
        return f"clients.agents.{self.name}"


CLIENTS = (
    Client("langchain_mcp_adapters", "langchain-mcp-adapters", ("chat", "responses")),
    Client("langchain_mcp", "langchain", ("chat", "responses")),
    Client("autogen", "autogen-ext", ("", "texts")),
    Client("crewai", "crewai-tools", ("tools", "mcps"), time_limits=2),
    Client("smolagents", "smolagents", ("", "pictures")),
    Client("openai_agents", "openai-agents", ("responses", "chat", "chat with pictures", "strict")),
    Client("agno", "agno"),
    Client("google_adk", "google-adk", ("", "pictures")),
)
