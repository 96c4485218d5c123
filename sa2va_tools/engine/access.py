"""What front ends for agents may read: one policy for all of them, and engines that keep to it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import RequestError, WrongTypeError
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.settings import Settings

ANY = "any"
"""As roots: everything may be read."""
Roots = str | PathLike[str] | Iterable[str | PathLike[str]]
"""A folder, several, or `"any"`."""


def check_roots(roots: Roots) -> tuple[Path, ...] | None:
    """The real paths of the folders, which have to exist; None for `"any"`.

    RequestError for a folder that does not exist or a path that is empty, TypeError for anything else.
    """
    if isinstance(roots, str) and roots == ANY:
        return None
    if isinstance(roots, str | PathLike):
        return resolve_roots([roots])  # a text is a folder, not a list of letters
    is_array = hasattr(roots, "__array__")
    if isinstance(roots, bytes) or is_array or not isinstance(roots, Iterable):
        raise WrongTypeError(
            f'roots must be a folder, a list of folders or "any", not {type(roots).__name__}'
        )
    return resolve_roots(roots)


def resolve_roots(folders: Iterable[str | PathLike[str]], given_as: str = "roots") -> tuple[Path, ...]:
    """See `check_roots`. Here `"any"` is a name like others. Errors call the list `given_as`."""
    given = list(folders)
    for folder in given:
        if not isinstance(folder, str | PathLike):
            raise WrongTypeError(f"a folder of {given_as} must be a path, not {type(folder).__name__}")
        if not os.fspath(folder).strip():
            raise RequestError(
                f"A path that {given_as} names is empty.",
                hint="Give the path of a folder; `.` is the working folder.",
            )
    paths = [Path(os.path.expanduser(os.fsdecode(folder))) for folder in given]  # noqa: PTH111  # keeps ~unknown
    # Unlike Path's method, this raises nothing for a path that is too long or contains a NUL.
    missing = [str(path) for path in paths if not os.path.isdir(path)]  # noqa: PTH112
    if missing:
        raise RequestError(
            f"There is no folder at {', '.join(missing)}, which {given_as} names.",
            hint="Give the path of an existing folder.",
        )
    return tuple(path.resolve() for path in paths)


def open_agent_engine(
    roots: Roots | None = None,
    *,
    how_to_open: str,
    model: str | Path | None = None,
    settings: Settings | None = None,
) -> Engine:
    """An engine for a front end whose callers are agents.

    It reads media under `roots`, else under the settings' (`SA2VA_ROOTS`), else none at all; everything only
    if the roots are `"any"`. Handles are no way around: those of media outside are refused as well.
    `how_to_open` is what the front end's user types to open a folder; refusals say it. Raises as
    `check_roots`, and RequestError for a setting that is wrong.
    """
    from sa2va_tools.engine.local import LocalEngine  # not before: servers start without it

    settings = settings or Settings.read()
    allowed = resolve_roots(settings.roots, "SA2VA_ROOTS") if roots is None else check_roots(roots)
    return LocalEngine.from_settings(model, settings=settings, access=AccessPolicy(allowed, how_to_open))
