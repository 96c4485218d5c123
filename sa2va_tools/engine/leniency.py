"""What callers send for a model's fields, read as it was meant. Knows no field by name.

Agent frameworks fill optional arguments with null or empty values, and send lists and objects as text. What
can mean only one thing is accepted; everything else is left for validation to explain.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

_WORDS_FOR_NOTHING = frozenset({"", "null", "none", "undefined"})
_MAX_LITERAL_CHARACTERS = 100_000


def is_empty(value: Any) -> bool:
    """Whether the value says nothing: None, blank text, a word such as "null", or a list or object that
    contains nothing else."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().casefold() in _WORDS_FOR_NOTHING
    if isinstance(value, Mapping):
        return all(map(is_empty, value.values()))
    return isinstance(value, list | tuple) and all(map(is_empty, value))


def read_fields(model: type[BaseModel], data: Mapping[Any, Any]) -> dict[Any, Any]:
    """The fields of `model` that `data` gives: optional ones that are empty are left out, and text is read
    as a list or object where no text is meant. Unknown names are kept, so that validation can refuse them."""
    found = {}
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is None:
            found[name] = value
        elif field.is_required():
            if value is not None:
                found[name] = value if _allows_text(field.annotation) else read_structure(value)
        elif not is_empty(value):
            found[name] = value if _allows_text(field.annotation) else read_structure(value)
    return found


def read_structure(value: Any) -> Any:
    """A list or object that was sent as JSON, or as Python writes it; anything else as it is."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{", "("):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    if len(value) > _MAX_LITERAL_CHARACTERS:
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value


def _allows_text(annotation: Any) -> bool:
    is_union = get_origin(annotation) in (Union, UnionType)
    return str in (get_args(annotation) if is_union else (annotation,))
