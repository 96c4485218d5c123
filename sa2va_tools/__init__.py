"""Find things in images and videos by describing them. Importing this loads nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sa2va_tools.engine.asynchronous import AsyncEngine as AsyncEngine
    from sa2va_tools.engine.loading import load_engine as load_engine
    from sa2va_tools.engine.mask_access import FrameResult as FrameResult
    from sa2va_tools.engine.mask_object import MaskObject as MaskObject
    from sa2va_tools.engine.options import DescribeOptions as DescribeOptions
    from sa2va_tools.engine.options import SegmentOptions as SegmentOptions
    from sa2va_tools.engine.options import TrackOptions as TrackOptions
    from sa2va_tools.engine.protocol import Engine as Engine
    from sa2va_tools.engine.regions import Region as Region
    from sa2va_tools.engine.results import AnswerResult as AnswerResult
    from sa2va_tools.engine.results import CaptionResult as CaptionResult
    from sa2va_tools.engine.results import SegmentResult as SegmentResult
    from sa2va_tools.engine.results import ViewResult as ViewResult
    from sa2va_tools.engine.streaming import SegmentStream as SegmentStream
    from sa2va_tools.errors import Sa2vaError as Sa2vaError
    from sa2va_tools.masks.track import MaskTrack as MaskTrack
    from sa2va_tools.run import Progress as Progress
    from sa2va_tools.run import Run as Run
    from sa2va_tools.settings import Settings as Settings

_MODULES = {
    "AnswerResult": "engine.results",
    "AsyncEngine": "engine.asynchronous",
    "CaptionResult": "engine.results",
    "DescribeOptions": "engine.options",
    "Engine": "engine.protocol",
    "FrameResult": "engine.mask_access",
    "MaskObject": "engine.mask_object",
    "MaskTrack": "masks.track",
    "Progress": "run",
    "Region": "engine.regions",
    "Run": "run",
    "Sa2vaError": "errors",
    "SegmentOptions": "engine.options",
    "SegmentResult": "engine.results",
    "SegmentStream": "engine.streaming",
    "Settings": "settings",
    "TrackOptions": "engine.options",
    "ViewResult": "engine.results",
    "load_engine": "engine.loading",
}

__all__ = [*sorted(["__version__", *_MODULES])]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"sa2va_tools.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'sa2va_tools' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
