"""Text from elsewhere (file names, labels, answers) that can be shown and stored without harm.

A name on disk may hold bytes that are not UTF-8 (Python reads them as lone surrogates, which no JSON and no
terminal takes), line breaks (which would forge lines of output), control characters (which move a terminal's
cursor) and characters that reverse the direction of the text after them. Each becomes U+FFFD, so that it is
seen that something was there. Text for reading only: a file is opened by its real name.
"""

from __future__ import annotations

import re
from typing import Any

_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # control characters, tabs and line breaks among them
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of text
    r"\u2028\u2029"  # line and paragraph separators
    r"\ud800-\udfff\ufeff\ufff9-\ufffb]"  # lone surrogates, marks that are not seen
)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MARK = "\N{REPLACEMENT CHARACTER}"


def make_printable(text: str) -> str:
    """The text on one line, with a visible mark for each character that cannot be shown."""
    return _UNPRINTABLE.sub(_MARK, text)


def make_valid(value: Any) -> Any:
    """A JSON value whose texts, keys included, are valid Unicode: lone surrogates are replaced, everything
    else, line breaks too, stays."""
    if isinstance(value, str):
        return _SURROGATE.sub(_MARK, value)
    if isinstance(value, dict):
        return {make_valid(key): make_valid(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [make_valid(item) for item in value]
    return value
