"""Wrong arguments in words that a caller can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sa2va_tools.engine.regions import Region
from sa2va_tools.errors import RequestError
from sa2va_tools.wording import argument, phrase

_MAX_EXPLAINED = 5
_MAX_REGIONS_EXPLAINED = 2
_MAX_SHOWN = 60
"""Characters of a wrong name or value."""
_NEAR = 0.65
"""How alike two names are, 0 … 1, for one to be suggested."""
_ALIASES = {
    "box_xyxy": ("box", "bbox"),
    "points_xy": ("point", "points"),
    "polygon_xy": ("polygon",),
    "expressions": ("query", "text", "expression"),
    "question": ("prompt",),
    "frame_index": ("frame",),
    "media": ("path", "video", "image"),
    "regions": (
        "region",
        "mask",
        "masks",
        "handle",
        "handles",
        *Region.model_fields,
        "box",
        "bbox",
        "points",
    ),
    "handles": ("handle", "mask", "masks", "answer", "media", "path", "video", "image"),
    "llm_frames": ("key_frames",),
    "mask": ("handle",),
}
"""What callers say for our names, where the spelling is not close."""
_SHAPES = (
    "A region is an object such as {'box_xyxy': [x0, y0, x1, y1]}, {'points_xy': [[x, y]]}, "
    "{'polygon_xy': [[x, y], [x, y], [x, y]]} or {'mask': 'mask:…'}."
)
_FEW = {"too_short": "few", "too_long": "many"}
Problem = Mapping[str, Any]


def explain(error: ValidationError, model: type[BaseModel]) -> RequestError:
    """What is wrong with which argument, and what is allowed."""
    problems = sorted(
        error.errors(include_url=False, include_context=False),
        # A misspelt name explains a missing one, so it comes first.
        key=lambda problem: problem["type"] != "extra_forbidden",
    )
    inside_regions = [problem for problem in problems if _is_inside_region(problem)]
    others = [problem for problem in problems if not _is_inside_region(problem)]
    sentences = [_explain_argument(problem, model) for problem in others[:_MAX_EXPLAINED]]
    regions = _first_of_each_region(inside_regions)
    sentences += [_explain_region(problem) for problem in regions[:_MAX_REGIONS_EXPLAINED]]
    left_out = len(others[_MAX_EXPLAINED:]) + len(regions[_MAX_REGIONS_EXPLAINED:])
    if left_out:
        sentences.append(f"… and {left_out} more errors.")
    hint = _list_names(model) if others else phrase("region_shapes", _SHAPES)
    return RequestError(" ".join(dict.fromkeys(sentences)), hint=hint)


def _is_inside_region(problem: Problem) -> bool:
    return len(problem["loc"]) > 1 and problem["loc"][0] == "regions"


def _first_of_each_region(problems: Iterable[Problem]) -> list[Problem]:
    first: dict[Any, Problem] = {}
    for problem in problems:
        first.setdefault(problem["loc"][1], problem)
    return list(first.values())


def _list_names(model: type[BaseModel]) -> str:
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    optional = [name for name in model.model_fields if name not in required]
    listed = (", ".join(map(argument, names)) or "none" for names in (required, optional))
    return "Required: {}. Optional: {}.".format(*listed)


def _explain_argument(problem: Problem, model: type[BaseModel]) -> str:
    name = _name(problem)
    field = model.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
    description = (field.description if field else None) or "it is required."
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"Unknown argument {name!r}.{_suggest(problem, model)}"
    if kind == "missing":
        return f"Missing argument '{argument(name)}': {description}"
    if kind == "string_too_short" or (kind == "too_short" and not problem["input"]):
        return f"Argument '{argument(name)}' is empty: {description}"
    if kind in _FEW:
        return f"Argument '{argument(name)}' has too {_FEW[kind]} entries."
    return f"Argument '{argument(name)}': {_message(problem)} (got {_short(problem['input'])})."


def _explain_region(problem: Problem) -> str:
    name = _name(problem)
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"Unknown argument {name!r}.{_suggest(problem, Region)}"
    got = f"(got {_short(problem['input'])})"
    if len(problem["loc"]) == 2 and kind.startswith(("model_", "dict_")):
        return f"Argument '{argument(name)}' must be a region object {got}."
    if kind in _FEW:
        return f"Argument '{argument(name)}' has too {_FEW[kind]} entries {got}."
    if kind == "missing":  # a number of a box or a point
        return f"Argument '{argument(name)}' is missing: there are too few numbers."
    if len(problem["loc"]) == 2:
        return f"Argument '{argument(name)}': {_message(problem)}."
    return f"Argument '{argument(name)}': {_message(problem)} {got}."


def _suggest(problem: Problem, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    given = str(problem["loc"][-1])
    near = [name for name in known if given in _ALIASES.get(name, ())]
    near = near or difflib.get_close_matches(given[:_MAX_SHOWN], known, n=1, cutoff=_NEAR)
    return f" Did you mean '{argument(near[0])}'?" if near else ""


def _name(problem: Problem) -> str:
    name = ".".join(str(part) for part in problem["loc"]) or "arguments"
    return name if len(name) <= _MAX_SHOWN else f"{name[: _MAX_SHOWN - 1]}…"


def _message(problem: Problem) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
