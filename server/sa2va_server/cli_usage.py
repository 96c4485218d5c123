"""A command line that does not parse: said on stderr, and with `--json` on stdout as well."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, cast

import typer
from typer.core import TyperGroup

from sa2va_server.cli_session import Session, error_json

# Typer gives its base of all usage errors no public name, and it moved between versions.
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)
_WANTS_JSON = "sa2va.wants_json"


class Commands(TyperGroup):
    """The commands. Typer shows usage errors and exits with 2; this adds the document for scripts."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        wants_json = "--json" in args
        with _usage_errors(wants_json):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[_WANTS_JSON] = wants_json
        return context

    def invoke(self, ctx: Any) -> Any:
        with _usage_errors(ctx.meta[_WANTS_JSON]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _usage_errors(wants_json: bool) -> Iterator[None]:
    """Errors pass through; a usage error is written as JSON first, where that is wanted."""
    try:
        yield
    except _UsageError as error:
        if wants_json:
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else "sa2va"
            message = cast("Any", error).format_message()
            document = error_json("bad_request", message, f"See: {command} --help")
            Session(out=sys.stdout).emit_json({"error": document})
        raise
