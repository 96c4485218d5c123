"""What the runner tells a client's script. Scripts import nothing else from here: it needs no package."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

VARIABLE = "SA2VA_CLIENT_TRIAL"
TASK = "Find the red circle in the clip, look at the mask, and describe what is in it. Use the tools."
API_KEY = "no key: the scripted model asks for none"


@dataclass(frozen=True)
class Trial:
    """How to start the MCP server, where the scripted model listens, and how to set up the client."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    """Variables that the server's process needs; clients pass on few of their own."""
    model_url: str
    """Without a path: OpenAI's API is under /v1."""
    variant: str = ""
    """One of the forms in which a script can run; empty for its only one."""
    limit_s: float | None = None
    """How long a call of a tool may take; None leaves the client's own limit."""

    @property
    def openai_url(self) -> str:
        return f"{self.model_url}/v1"

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_trial() -> Trial:
    """The trial that the runner asks for."""
    fields = json.loads(os.environ[VARIABLE])
    return Trial(**fields | {"args": tuple(fields["args"])})
