"""JSON of a record in pieces, so that a long one is hashed and written without ever being one text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

_AT_ONCE = 64
"""Items of an array in one piece."""


@dataclass(frozen=True, slots=True)
class Many:
    """An array of a record, made item by item, as often as it is asked for."""

    items: Callable[[], Iterator[Any]]


def settled(record: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read back (tuples are lists, names are text), but for what is `Many`. TypeError or
    ValueError when it holds what JSON cannot."""
    return {
        name: value if isinstance(value, Many) else json.loads(json.dumps(value, allow_nan=False))
        for name, value in record.items()
    }


def json_pieces(record: Mapping[str, Any]) -> Iterator[str]:
    """Together the JSON of the record, compact, ASCII, its names sorted; `Many` and lists as arrays.
    TypeError or ValueError when it holds what JSON cannot."""
    for number, name in enumerate(sorted(record)):
        yield f"{',' if number else '{'}{_text(name)}:"
        value = record[name]
        if isinstance(value, Many | list):
            yield from _array(value.items() if isinstance(value, Many) else iter(value))
        else:
            yield _text(value)
    yield "}" if record else "{}"


def _array(items: Iterator[Any]) -> Iterator[str]:
    start = "["
    while part := list(islice(items, _AT_ONCE)):
        yield start + _text(part)[1:-1]
        start = ","
    yield "[]" if start == "[" else "]"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
