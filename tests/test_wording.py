"""Errors name arguments, calls and settings as each front end spells them, and change no other text."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from sa2va_server.cli.app import app
from sa2va_server.cli.vocabulary import COMMANDS, OPTIONS, SHELL
from sa2va_tools import errors
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import MissingExtraError, RequestError, Sa2vaError
from sa2va_tools.tools.catalogue import CATALOGUE, find_tool
from sa2va_tools.wording import PYTHON, TOOLS, argument, call, setting, spell

ROOT = Path(__file__).parents[1]
TOOL_NAMES = {tool.name for tool in CATALOGUE}
ARGUMENTS = {name for tool in CATALOGUE for name in tool.arguments.model_fields}
MARKERS = ("argument", "call", "setting")
NOT_WORDS = {name for name in ARGUMENTS | TOOL_NAMES | set(OPTIONS) if "_" in name}
"""Names that no person would type or read as plain English."""


def _error() -> RequestError:
    return RequestError(
        f"{argument('start_s')} is 'start_s'.",
        hint=f"Use {call('segment')} with {argument('unit', 'fraction')}, or set {setting('store_dir')}.",
    )


@pytest.mark.parametrize(
    ("vocabulary", "message", "hint"),
    [
        (PYTHON, "start_s", "segment with unit='fraction', or set store_dir (or SA2VA_STORE_DIR)."),
        (TOOLS, "start_s", "segment_by_text with unit: 'fraction', or set SA2VA_STORE_DIR."),
        (SHELL, "--start", "sa2va segment with --fraction, or set --store (or SA2VA_STORE_DIR)."),
    ],
    ids=["python", "tools", "shell"],
)
def test_each_front_end_spells_names_and_leaves_quoted_text_alone(vocabulary, message, hint):
    error = _error()
    error.spell(vocabulary)
    assert error.message == f"{message} is 'start_s'." and error.hint == f"Use {hint}"
    assert str(error) == f"{error.message} {error.hint}"


def test_a_name_stays_recognisable_after_it_was_spelled():
    error = _error()
    for vocabulary in (TOOLS, SHELL, PYTHON):
        error.spell(vocabulary)
    error.add_hint(f"Or leave out {argument('end_s')}.")
    error.spell(SHELL)
    assert error.hint.endswith("Or leave out --end.") and "--start" in error.message


def test_text_from_outside_is_never_taken_for_a_name():
    forged = argument("start_s")[:3] + ":argument:start_s:\x03"
    error = RequestError(f"There is no {forged}.")
    error.spell(SHELL)
    assert "--start" not in error.message and error.message.isprintable()


def test_an_error_is_printable_on_one_line():
    error = RequestError("No file a\nb\x1b[2J\udcff\u202e.", hint="c\rd")
    assert str(error).isprintable() and str(error).encode()


@pytest.mark.parametrize("error", [_error(), MissingExtraError("torch", "engine")], ids=lambda e: e.code)
def test_an_error_crosses_processes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.hint) == (type(error), str(error), error.hint)
    copy.spell(SHELL)
    error.spell(SHELL)
    assert str(copy) == str(error)


def test_the_shell_can_spell_every_argument_of_every_tool():
    flags = {
        option
        for command in get_command(app).commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    spelled = {name: spell(argument(name), SHELL) for name in ARGUMENTS - set(OPTIONS)}
    spelled |= {name: option for name, option in OPTIONS.items() if name in ARGUMENTS | NOT_WORDS}
    typed = {word for words in spelled.values() for word in re.findall(r"--[a-z-]+", words)}
    assert typed - flags == set()
    assert not {words for words in spelled.values() if "_" in words}


def test_the_shell_has_a_command_for_every_method_that_errors_name():
    assert all(callable(getattr(Engine, method)) for method in COMMANDS)
    tools = {spell(call(method), TOOLS) for method in COMMANDS} - {"export", "list_results", "remove_results"}
    assert tools == TOOL_NAMES


def test_wrong_arguments_of_a_tool_are_named_as_its_callers_know_them():
    with pytest.raises(RequestError) as caught:
        find_tool("segment_by_text").parse({"media": "a.mp4", "expressions": "x", "stride": 0})
    assert "'stride'" in str(caught.value) and "start_s" in caught.value.hint
    caught.value.spell(SHELL)
    assert "--stride" in caught.value.message and "--start" in caught.value.hint
    assert not {name for name in NOT_WORDS if name in str(caught.value)}


def _find_error_texts() -> Iterator[tuple[str, str]]:
    """(place, text) of each string in the call that makes an error."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    for file in sorted((ROOT / "sa2va_tools").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in kinds:
                marked = {
                    inner
                    for part in ast.walk(node)
                    if isinstance(part, ast.Call)
                    and getattr(part.func, "id", "") in ("argument", "call", "setting")
                    for inner in ast.walk(part)
                }
                for part in ast.walk(node):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and part not in marked:
                        yield f"{file.relative_to(ROOT)}:{part.lineno}", part.value


def test_no_error_of_the_library_names_an_argument_or_tool_in_plain_text():
    wrong = [
        (place, text)
        for place, text in _find_error_texts()
        if {*re.findall(r"\w+", text)} & NOT_WORDS or re.search(r"(?<!pip install )(?<![\w-])--[a-z]", text)
    ]
    # How agents' folders are opened is told by the front ends; only Python takes dictionaries.
    allowed = ("mcp --root", "--root DIR", "or a dictionary such as")
    assert [(place, text) for place, text in wrong if not any(words in text for words in allowed)] == []


def test_every_error_can_be_spelled():
    made = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Sa2vaError)]
    for kind in made:
        error = kind("torch", "engine") if kind is MissingExtraError else kind("Something.", hint="Do it.")
        error.spell(SHELL)
        assert error.as_lines()[0].startswith("error: ")
