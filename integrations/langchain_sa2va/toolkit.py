"""All tools over one engine."""

from __future__ import annotations

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, Field

from langchain_sa2va.tools import TOOL_CLASSES
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.progress import ProgressCallback, ignore_progress
from sa2va_tools.settings import Settings
from sa2va_tools.tools.shared_engine import SharedEngine


class Sa2VAToolkit(BaseToolkit):
    """Every tool of the catalogue, all of them over one engine.

    Without `engine`, `Engine.load(model)` opens one at the first call. Close a toolkit that opened its
    own engine with `close()`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    engine: Engine | None = Field(None, exclude=True, repr=False)
    model: str | None = Field(None, description="`nano` or a checkpoint's folder; None: the settings' one.")
    on_progress: ProgressCallback = Field(ignore_progress, exclude=True, repr=False)

    def model_post_init(self, _: object) -> None:
        self._shared = SharedEngine(self.engine or self._open)

    def _open(self) -> Engine:
        return Engine.load(self.model, settings=Settings.read())

    def get_tools(self) -> list[BaseTool]:
        """In the catalogue's order."""
        return [
            tool_class(engine=self._shared, on_progress=self.on_progress)
            for tool_class in TOOL_CLASSES.values()
        ]

    def close(self) -> None:
        """Let go of the engine; the next call opens it again."""
        self._shared.close()
