"""The folders that agents may read, and engines that read nothing else. Shared by all servers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import RequestError
from sa2va_tools.settings import Settings


def resolve_roots(folders: Iterable[Path]) -> tuple[Path, ...]:
    """The real paths of these folders. RequestError if one does not exist."""
    given = [folder.expanduser() for folder in folders]
    missing = [str(folder) for folder in given if not folder.is_dir()]
    if missing:
        raise RequestError(
            f"There is no folder at {', '.join(missing)}.", hint="Give --root the path of an existing folder."
        )
    return tuple(folder.resolve() for folder in given)


def open_restricted_engine(settings: Settings, roots: tuple[Path, ...]) -> Engine:
    """An engine that reads media under `roots` only; without roots, none at all."""
    from sa2va_tools.engine.local import LocalEngine
    from sa2va_tools.media.source import AccessPolicy

    return LocalEngine.from_settings(settings=settings, access=AccessPolicy(roots))
