"""Values of options that a shell passes as text: paths, names of checkpoints, times.

An empty text is an error wherever a path is expected: it comes from a variable that is not set, and would
mean the working folder. `~` is the home folder also where no shell has expanded it (`--out=~/found`).
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from typer import BadParameter

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d*)?)")
_SECONDS = re.compile(r"(\d+(?:[.,]\d*)?|[.,]\d+)\s*s?")
_MINUTE = 60


def read_path(text: str | Path) -> Path:
    """A path. BadParameter if it is empty."""
    # Typer passes an option's default through its parser, too.
    return text if isinstance(text, Path) else Path(read_name(text))


def read_name(text: str) -> str:
    """A path, or a name that is looked up elsewhere. BadParameter if it is empty."""
    if not text.strip():
        raise BadParameter("It is empty. Is a variable not set? Leave the option out, or give it a value.")
    if "\0" in text:
        raise BadParameter("It contains a NUL character, which no path can have.")
    # Path.expanduser raises for the ~ of an unknown user, os.path's keeps it.
    return os.path.expanduser(text)  # noqa: PTH111


def read_seconds(text: str) -> float:
    """A time in a video: `65.5`, `1:05.5` or `00:01:05.5`. BadParameter for anything else."""
    plain = _SECONDS.fullmatch(text.strip())
    if plain is not None:
        return _finite(float(plain[1].replace(",", ".")), text)
    clock = _CLOCK.fullmatch(text.strip())
    if clock is None:
        raise BadParameter(
            f"{text!r} is not a time of 0 or more seconds. Give seconds (65.5), or minutes and seconds "
            "(1:05.5, 00:01:05.5)."
        )
    hours, minutes, seconds = int(clock[1] or 0), int(clock[2]), float(clock[3].replace(",", "."))
    if seconds >= _MINUTE or (clock[1] is not None and minutes >= _MINUTE):
        raise BadParameter(f"{text!r} is not a time: minutes and seconds after a colon are less than 60.")
    return _finite((hours * _MINUTE + minutes) * _MINUTE + seconds, text)


def _finite(seconds: float, text: str) -> float:
    if not math.isfinite(seconds):
        raise BadParameter(f"{text!r} is not a time in any video.")
    return seconds
