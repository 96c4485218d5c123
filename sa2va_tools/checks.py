"""Checks of arguments that many calls share. A wrong type is a TypeError and a wrong value a RequestError;
both say what was given, what is accepted and what to do."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from numbers import Integral, Real
from pathlib import Path
from typing import Any, cast

from sa2va_tools.errors import RequestError, WrongTypeError
from sa2va_tools.run import Run, RunStats
from sa2va_tools.wording import argument

_SHOWN = 80
_MOST = 2**62
"""More than any count or size: larger numbers are taken for this one."""


def show_value(value: object) -> str:
    """The value as an error shows it: short, and without failing."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the caller's own object
        text = object.__repr__(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def type_error(name: str, value: object, accepted: str) -> WrongTypeError:
    """`run must be a sa2va_tools.Run, not int: 7`."""
    return WrongTypeError(f"{name} must be {accepted}, not {type(value).__name__}: {show_value(value)}")


def as_plain(value: Any) -> Any:
    """The Python value of a scalar of NumPy or of another library of arrays; anything else as it is."""
    if type(value).__module__ in ("builtins", "fractions", "decimal"):
        return value
    has_no_axis = getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if has_no_axis else value


def is_whole_number(value: object) -> bool:
    """Whether it is a whole number; a bool is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_whole_number(name: str, value: object, *, least: int | None = None, most: int | None = None) -> int:
    """A whole number as an int, also one of NumPy's. RequestError if it is out of range."""
    value = as_plain(value)
    if not is_whole_number(value):
        raise type_error(name, value, "a whole number")
    number = max(-_MOST, min(int(cast("int", value)), _MOST))
    if least is None:
        return number
    if number < least or (most is not None and number > most):
        limits = f"from {least} to {most}" if most is not None else f"{least} or more"
        raise RequestError(
            f"{argument(name)} is {number}; it must be {limits}.", hint=f"Choose another {argument(name)}."
        )
    return number


def check_number(name: str, value: object) -> float:
    """A finite number, also one of NumPy's. A bool is none."""
    value = as_plain(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise type_error(name, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RequestError(
            f"{argument(name)} is {show_value(value)}; it must be a finite number.", hint="Correct it."
        )
    return number


def check_flag(name: str, value: object) -> bool:
    """True or False, also NumPy's."""
    value = as_plain(value)
    if not isinstance(value, bool):
        raise type_error(name, value, "True or False")
    return value


def check_path(name: str, value: object) -> Path:
    """A text or a path object as a path, with `~` as the home folder."""
    if not isinstance(value, str | os.PathLike):
        raise type_error(name, value, "a path (text or pathlib.Path)")
    text = os.fsdecode(value)
    if not text.strip():
        raise RequestError(f"{argument(name)} is empty.", hint="Give a path; '.' is the working folder.")
    if "\0" in text:
        raise RequestError(f"{argument(name)} contains a NUL character.", hint="Give another folder or file.")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{argument(name)} contains a character that no file name can contain.",
            hint="Give valid Unicode text.",
        ) from error
    # os.path.expanduser keeps the ~ of an unknown user, while Path's raises.
    return Path(os.path.expanduser(text))  # noqa: PTH111


def check_texts(name: str, value: object, accepted: str) -> list[str]:
    """One text, or several in a list, tuple or other iterable with an order, as a list."""
    if isinstance(value, str):
        return [value]
    items = as_items(name, value, accepted)
    for item in items:
        if not isinstance(item, str):
            raise type_error(f"each item of {name}", item, "text")
    return items


def as_items(name: str, value: object, accepted: str) -> list[Any]:
    """The items of a list, tuple, generator, array or other iterable. TypeError for text, bytes, mappings,
    and sets, whose order is arbitrary."""
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping | AbstractSet) or not isinstance(
        value, Iterable
    ):
        raise type_error(name, value, accepted)
    try:
        return list(value)
    except TypeError as error:  # for example an array without dimensions
        raise type_error(name, value, accepted) from error


def start_run(run: Run | None) -> Run:
    """The run of a new call, with statistics that start from zero. Raises CancelledError."""
    if run is None:
        return Run()
    if not isinstance(run, Run):
        raise type_error("run", run, "a sa2va_tools.Run")
    run.raise_if_cancelled()
    run.stats = RunStats()
    return run
