"""Names in messages that every front end spells in its own way.

A message that tells a caller to leave out `start_s` is of no use to a person who typed `--start`, nor is the
name of a tool to a program that calls a method. Messages therefore name such things by `argument`, `call` and
`setting`:

    RequestError("An image has no time range.", hint=f"Leave out {argument('start_s')}.")

An error keeps its message as a `Wording`, in which these names stay apart from all other text. A front end
gives its `Vocabulary` to `Sa2vaError.spell`; text from elsewhere is never taken for a name and never
changed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["argument", "call", "setting", "phrase"]
# Names are marked inside ordinary strings, because messages are f-strings. The mark is different in every
# process, so that no text from outside can contain one.
_MARK = secrets.token_hex(8)
_NAME = re.compile(rf"\x02{_MARK}:(\w+):([^:\x03]+):([^\x03]*)\x03")


class Name(NamedTuple):
    """Something that a caller types."""

    kind: Kind
    name: str
    """As in Python: an argument, a method of `Engine`, a field of `Settings`; or what a phrase is about."""
    value: str = ""
    """What it is to be set to, if the message says that; or the phrase."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How a front end spells names."""

    argument: Callable[[str, str], str]
    """An argument and, or "", the value that it is to be set to."""
    call: Callable[[str], str]
    setting: Callable[[str, str], str]
    phrases: Mapping[str, str] = field(default_factory=dict)
    """Sentences that this front end says in its own way, by what they are about."""

    def spell(self, name: Name) -> str:
        """One name."""
        if name.kind == "call":
            return self.call(name.name)
        if name.kind == "phrase":
            return self.phrases.get(name.name, name.value)
        return (self.argument if name.kind == "argument" else self.setting)(name.name, name.value)


@dataclass(frozen=True, slots=True)
class Wording:
    """A message: text, and names between the texts."""

    parts: tuple[str | Name, ...]

    @classmethod
    def read(cls, text: str) -> Wording:
        """A text in which `argument`, `call`, `setting` and `phrase` have marked names."""
        parts: list[str | Name] = []
        at = 0
        for match in _NAME.finditer(text):
            parts += [text[at : match.start()], Name(match[1], match[2], match[3])]  # type: ignore[arg-type]
            at = match.end()
        return cls((*parts, text[at:]))

    def spell(self, vocabulary: Vocabulary) -> str:
        """The message in the words of a front end."""
        return "".join(part if isinstance(part, str) else vocabulary.spell(part) for part in self.parts)


def argument(name: str, value: str = "") -> str:
    """An argument of a method or tool, marked for a message; with the value that it is to be set to."""
    return _mark("argument", name, value)


def call(method: str) -> str:
    """A method of `Engine`, marked for a message."""
    return _mark("call", method)


def setting(name: str, value: str = "") -> str:
    """A field of `Settings`, marked for a message; with the value that it is to be set to."""
    return _mark("setting", name, value)


def phrase(about: str, text: str) -> str:
    """A sentence, marked for a message, that front ends may say in their own way."""
    return _mark("phrase", about, text)


def spell(text: str, vocabulary: Vocabulary) -> str:
    """A text with marked names, in the words of a front end."""
    return Wording.read(text).spell(vocabulary)


def _mark(kind: Kind, name: str, value: str = "") -> str:
    return f"\x02{_MARK}:{kind}:{name}:{value}\x03"


def _spell_keyword(name: str, value: str) -> str:
    return f"{name}={value!r}" if value else name


def _spell_setting(name: str, value: str) -> str:
    return _spell_keyword(name, value) if value else f"{name} (or SA2VA_{name.upper()})"


PYTHON = Vocabulary(argument=_spell_keyword, call=lambda method: method, setting=_spell_setting)
"""What a program types that uses the library. Errors are worded like this at first."""

_TOOL_NAMES = {
    "segment": "segment_by_text",
    "ground": "ground_conversation",
    "track": "track_region",
}
TOOLS = Vocabulary(
    argument=lambda name, value: f"{name}: {value!r}" if value else name,
    call=lambda method: _TOOL_NAMES.get(method, method),
    setting=lambda name, value: f"SA2VA_{name.upper()}={value}".rstrip("="),
)
"""What an agent types that calls tools; settings are made by whoever starts the server."""
