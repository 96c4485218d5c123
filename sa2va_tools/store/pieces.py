"""The JSON of a record in pieces: a long one is hashed and written without its whole text in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

_ITEMS_PER_PIECE = 64


@dataclass(frozen=True, slots=True)
class LazyArray:
    """An array of a record whose items are produced one by one, each time they are needed."""

    items: Callable[[], Iterator[Any]]


def normalize_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it will be read back (tuples become lists, keys become text), except for a `LazyArray`.
    TypeError or ValueError if it contains what JSON cannot."""
    return {
        name: value if isinstance(value, LazyArray) else json.loads(json.dumps(value, allow_nan=False))
        for name, value in record.items()
    }


def iter_json(record: Mapping[str, Any]) -> Iterator[str]:
    """Pieces of the record's JSON: compact, ASCII, keys sorted; a `LazyArray` and lists as arrays. TypeError
    or ValueError if it contains what JSON cannot."""
    for number, name in enumerate(sorted(record)):
        yield f"{',' if number else '{'}{_dump(name)}:"
        value = record[name]
        if isinstance(value, LazyArray | list):
            yield from _iter_array(value.items() if isinstance(value, LazyArray) else iter(value))
        else:
            yield _dump(value)
    yield "}" if record else "{}"


def _iter_array(items: Iterator[Any]) -> Iterator[str]:
    start = "["
    while part := list(islice(items, _ITEMS_PER_PIECE)):
        yield start + _dump(part)[1:-1]
        start = ","
    yield "[]" if start == "[" else "]"


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
