"""Point at things in images and video by words. Importing this loads nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sa2va_tools.engine.protocol import Engine as Engine
    from sa2va_tools.engine.regions import Region as Region
    from sa2va_tools.errors import Sa2vaError as Sa2vaError
    from sa2va_tools.progress import CancelToken as CancelToken
    from sa2va_tools.progress import Progress as Progress
    from sa2va_tools.settings import Settings as Settings

_HOMES = {
    "CancelToken": "sa2va_tools.progress",
    "Engine": "sa2va_tools.engine.protocol",
    "Progress": "sa2va_tools.progress",
    "Region": "sa2va_tools.engine.regions",
    "Sa2vaError": "sa2va_tools.errors",
    "Settings": "sa2va_tools.settings",
}

__all__ = ["CancelToken", "Engine", "Progress", "Region", "Sa2vaError", "Settings", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sa2va_tools' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
