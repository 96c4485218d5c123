"""Boxes, points and polygons as people and programs write them → numbers.

Besides `x0,y0,x1,y1`, whatever our own output prints is taken back: `[33, 34, 128, 128]`, with or without the
name before it, and JSON such as `{"box_xyxy": [33, 34, 128, 128]}` or `[[10, 20], [30, 40]]`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from sa2va_server.cli.vocabulary import HOW_TO_POINT
from sa2va_tools.errors import RequestError

_NAMES = {
    "--box": ("box_xyxy", "box"),
    "--point": ("points_xy", "point"),
    "--negative-point": ("negative_points_xy", "point"),
    "--polygon": ("polygon_xy", "polygon"),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_AT_FRAME = re.compile(r"\s+at frame (\d+)\s*$")
_BRACKETS = str.maketrans(
    dict.fromkeys("[](){}", " ") | {"\N{MINUS SIGN}": "-", ";": ",", "\N{NO-BREAK SPACE}": " "}
)
Point = tuple[float, float]


def no_region_error() -> RequestError:
    """A command that needs a region got none."""
    return RequestError("No region was given.", hint=HOW_TO_POINT)


def read_box(text: str) -> list[float]:
    """`x0,y0,x1,y1`. RequestError for anything but four finite numbers."""
    numbers = _read_numbers("--box", text)
    if len(numbers) != 4:
        raise RequestError(f"--box needs 4 numbers, but {text!r} has {len(numbers)}.", hint=HOW_TO_POINT)
    return numbers


def read_points(option: str, text: str) -> list[Point]:
    """`x,y`, or a list of such points. RequestError for anything but pairs of finite numbers."""
    numbers = _read_numbers(option, text)
    is_list = text.count("[") + text.count("(") > 1
    if not numbers or len(numbers) % 2 or (len(numbers) > 2 and not is_list):
        raise RequestError(
            f"{option} needs 2 numbers, but {text!r} has {len(numbers)}.",
            hint=f"Repeat the option for more points: {option} 10,20 {option} 30,40.",
        )
    return _pair(numbers)


def read_corners(text: str) -> list[Point]:
    """`x,y,x,y,x,y`, or a list of corners. RequestError for fewer than three, or several outlines."""
    parts = re.split(r"[\])]\s*,\s*[\[(]", text)  # corners, or outlines of an annotation with several parts
    if len(parts) > 1 and any(
        part.count(",") > 1 or part.rstrip().endswith(("]", ")")) for part in parts[:-1]
    ):
        raise RequestError(
            "--polygon got several outlines.",
            hint="Give each a --polygon of its own, or give the mask as --rle.",
        )
    numbers = _read_numbers("--polygon", text)
    if len(numbers) < 6 or len(numbers) % 2:
        raise RequestError(
            f"--polygon needs at least three corners of two numbers each; it has {len(numbers)} numbers.",
            hint=HOW_TO_POINT,
        )
    return _pair(numbers)


def _pair(numbers: Sequence[float]) -> list[Point]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _read_numbers(option: str, text: str) -> list[float]:
    """The numbers in a text. RequestError for an empty text, for what is not a number or not finite, and for
    a place on a certain frame."""
    if frame := _AT_FRAME.search(text):
        raise RequestError(
            f"{option} {text!r} names a frame.",
            hint=f"Give the frame by itself: {option} {text[: frame.start()]!r} --frame {frame[1]}.",
        )
    plain = _strip_name(option, text).translate(_BRACKETS).strip().removesuffix(",")
    parts = re.split(r"\s*,\s*|\s+", plain.strip())
    numbers = []
    for part in parts:
        if _NOT_FINITE.fullmatch(part):
            raise RequestError(
                f"{option} {text!r} contains {part}, which is no place in a picture.", hint=HOW_TO_POINT
            )
        if not _NUMBER.fullmatch(part):
            problem = "contains something that is not a number" if part else "lacks a number"
            problem = problem if text.strip() else "is empty"
            raise RequestError(f"{option} {text!r} {problem}.", hint=HOW_TO_POINT)
        if not math.isfinite(float(part)):
            raise RequestError(f"{option} {text!r} contains {part}, which is too large.", hint=HOW_TO_POINT)
        numbers.append(float(part))
    return numbers


def _strip_name(option: str, text: str) -> str:
    """`box [1, 2, 3, 4]`, `"box_xyxy": [1, 2, 3, 4]` and `{"box_xyxy": [1, 2, 3, 4]}` without the name."""
    field, word = _NAMES[option]
    if text.lstrip().startswith("{"):
        return json.dumps(_find_field(option, text, field))
    return re.sub(rf"""^\s*["']?({field}|{word})["']?\s*[:=]?\s*""", "", text)


def _find_field(option: str, text: str, field: str) -> Any:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{option} {text!r} is not valid JSON: {error}.", hint=HOW_TO_POINT) from error
    if field not in document:
        raise RequestError(f"{option} got JSON without {field!r}: {text!r}.", hint=HOW_TO_POINT)
    return document[field]
