"""Turns functions into commands: takes options from signatures, and reports errors as a sentence with a hint
on stderr, as JSON on stdout if asked for, and as an exit code.

Exit codes: 0 done (even if nothing was found), 1 failed (also if the result cannot be printed), 2 wrong
arguments, 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP, 141 nobody reads the output any more
(`| head`). Of several files, the highest counts.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from inspect import Parameter
from typing import Any, TypeVar, cast, get_type_hints

import typer
from typer.core import TyperGroup

from sa2va_server.cli.common_flags import CommonFlags
from sa2va_server.cli.output import OutputError
from sa2va_server.cli.session import Session
from sa2va_server.cli.stopping import ignore_signals
from sa2va_server.cli.vocabulary import SHELL
from sa2va_tools import atomic
from sa2va_tools.errors import CancelledError, MissingExtraError, RequestError, Sa2vaError
from sa2va_tools.memory_errors import translate_memory_errors

EXIT_FAILED, EXIT_USAGE = 1, 2
_ENGINE = ("torch", "transformers", "safetensors", "sentencepiece", "tokenizers", "huggingface_hub")
_EXTRAS = dict.fromkeys(_ENGINE, "engine") | {
    "mcp": "server",
    "anyio": "server",
    "bitsandbytes": "quantize",
    "matplotlib": "train",
}
"""Package → the extra of sa2va-tools that installs it."""
# Typer has no public name for the base of all usage errors, and moved it between versions.
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)
_WANTS_JSON = "sa2va.wants_json"
Flags = TypeVar("Flags")


def with_session(command: Callable[..., None]) -> Callable[..., None]:
    """Prepare a command, whose first argument is a `Session`, for Typer. It gets the common options, and the
    options of each dataclass of `flags` among its arguments. Errors become sentences and exit codes."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    groups: dict[str, Any] = {each.name: each.annotation for each in own if is_dataclass(each.annotation)}

    @functools.wraps(command)
    def run_command(context: typer.Context, **values: Any) -> None:
        session = Session(
            flags=_collect(CommonFlags, values), opener=context.obj, subcommand=context.invoked_subcommand
        )
        values |= {name: _collect(kind, values) for name, kind in groups.items()}
        code = _run_guarded(session, lambda: command(session, **values))
        if code:
            raise typer.Exit(code)

    parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for each in own:
        keyword = each.replace(kind=Parameter.KEYWORD_ONLY)
        parameters += _expand(each.annotation) if each.name in groups else [keyword]
    parameters += _expand(CommonFlags)
    run_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run_command.__annotations__ = {each.name: each.annotation for each in parameters}
    return run_command


def _expand(kind: type) -> list[Parameter]:
    """A parameter for each field of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(kind)
    ]


def _collect(kind: type[Flags], values: dict[str, Any]) -> Flags:
    """Take the fields of a dataclass out of `values` and make one of them."""
    return kind(**{name: values.pop(name) for name in get_type_hints(kind)})


def _run_guarded(session: Session, work: Callable[[], None]) -> int:
    """Do the work and return the exit code. During the work, prints of libraries go to stderr."""
    try:
        with session.stops.listen(), contextlib.redirect_stdout(sys.stderr), translate_memory_errors():
            work()
    except (typer.Exit, OutputError):
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a person gets a sentence
        # Interrupted code may fail in its own words, e.g. with an import that was left half done.
        if session.stops.received or isinstance(error, CancelledError | KeyboardInterrupt):
            with ignore_signals():
                atomic.remove_unfinished()
            sys.stderr.write("Stopped.\n")
            return session.stops.exit_code
        ours = as_sa2va_error(error)
        print_error(session, ours)
        if session.as_json:
            _print_error_document(session, ours)
        return find_exit_code(ours)
    return 0


def find_exit_code(error: Sa2vaError) -> int:
    """The exit code of a command that failed like this."""
    return EXIT_USAGE if isinstance(error, RequestError) else EXIT_FAILED


def _print_error_document(session: Session, error: Sa2vaError) -> None:
    """Print an error for `--json`. If that fails too, the exit code still tells the error itself."""
    try:
        session.print_json({"error": error_json(error)})
    except OutputError as failure:
        print_error(session, failure)


def print_error(session: Session, error: Sa2vaError) -> None:
    """Write the error to stderr in the words of a shell: with `--debug` its traceback, then a sentence and a
    hint."""
    error.spell(SHELL)
    if session.flags.debug:
        traceback.print_exception(error, file=sys.stderr)
    sys.stderr.write("".join(f"{line}\n" for line in error.as_lines()))


def error_json(error: Sa2vaError) -> dict[str, str]:
    """The error as `--json` prints it, under the key `error`."""
    error.spell(SHELL)
    return {"code": error.code, "message": error.message, "hint": error.hint}


def as_sa2va_error(error: BaseException) -> Sa2vaError:
    """Any error as one of ours; one that we did not expect is told to be a bug."""
    if isinstance(error, Sa2vaError):
        return error
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    wrapped = Sa2vaError(
        f"Unexpected {type(error).__name__}: {error}",
        hint="This is a bug in sa2va-tools. Run the command again with --debug to see the traceback.",
    )
    if package in _EXTRAS:
        wrapped = MissingExtraError(package, _EXTRAS[package])
    wrapped.__cause__ = error
    return wrapped


class Commands(TyperGroup):
    """The commands. If a command line cannot be parsed, Typer explains it on stderr and exits with 2; this
    adds the JSON document on stdout."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        wants_json = "--json" in args
        with _print_usage_errors(wants_json):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[_WANTS_JSON] = wants_json
        return context

    def invoke(self, ctx: Any) -> Any:
        with _print_usage_errors(ctx.meta[_WANTS_JSON]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _print_usage_errors(wants_json: bool) -> Iterator[None]:
    """Print a usage error as JSON, if that is wanted, and let it pass."""
    try:
        yield
    except _UsageError as error:
        if wants_json:
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else "sa2va"
            message = cast("Any", error).format_message()
            ours = RequestError(message, hint=f"See: {command} --help")
            _print_error_document(Session(), ours)
        raise
