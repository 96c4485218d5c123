"""All tools over one engine."""

from __future__ import annotations

from collections.abc import Iterable

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict

from langchain_sa2va.common_fields import CommonFields
from langchain_sa2va.tools import TOOL_CLASSES
from sa2va_tools.tools.catalogue import find_tool


class Sa2VAToolkit(CommonFields, BaseToolkit):
    """The tools of the catalogue, all over one engine.

    Without `engine`, the first call opens one for `model`, which reads only under `roots`, else under
    SA2VA_ROOTS, else nothing; then `close()` releases it.
    """

    model_config = ConfigDict(extra="forbid")

    def get_tools(self, include: str | Iterable[str] | None = None) -> list[BaseTool]:
        """The tools in the catalogue's order: all, or those with the names in `include`. RequestError, with
        the names that exist, for an unknown one."""
        names = [include] if isinstance(include, str) else include
        wanted = TOOL_CLASSES.keys() if names is None else {find_tool(name).name for name in names}
        shared = {
            "engine": self._shared,
            "on_progress": self.on_progress,
            "strict_schemas": self.strict_schemas,
        }
        return [kind(**shared) for name, kind in TOOL_CLASSES.items() if name in wanted]

    def close(self) -> None:
        """Release the engine. The next call opens it again."""
        self._shared.close()
