"""All tools over one engine."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict

from langchain_sa2va.common_fields import CommonFields
from langchain_sa2va.tools import TOOL_CLASSES
from sa2va_tools.checks import check_texts
from sa2va_tools.tools.catalogue import find_tool

_ACCEPTED = "the name of a tool or a list of names"


class Sa2VAToolkit(CommonFields, BaseToolkit):
    """The tools of the catalogue, all over one engine.

    Without `engine`, the first call opens one for `model`, which reads only under `roots`, else under
    SA2VA_ROOTS, else nothing; then `close()` releases it.
    """

    model_config = ConfigDict(extra="forbid")

    def get_tools(self, include: str | Iterable[str] | None = None) -> list[BaseTool]:
        """The tools in the catalogue's order: all, or those with the names in `include`. RequestError, with
        the names that exist, for an unknown one."""
        wanted = TOOL_CLASSES.keys() if include is None else _check_names(include)
        fields = {name: getattr(self, name) for name in CommonFields.model_fields}
        tools = [kind(**fields) for name, kind in TOOL_CLASSES.items() if name in wanted]
        for tool in tools:
            tool.share_engine(self._shared)
        return [*tools]

    def close(self) -> None:
        """Release the engine. The next call opens it again."""
        self._shared.close()


def _check_names(include: Any) -> set[str]:
    names = list(include) if isinstance(include, Set) else include  # the order does not matter
    return {find_tool(name).name for name in check_texts("include", names, _ACCEPTED)}
