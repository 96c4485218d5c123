"""The options of each kind of call, checked when they are created.

Every engine method takes such a value as `options`, or its fields as keyword arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Rational, Real
from typing import Any, Literal, TypedDict, TypeVar, get_args

from sa2va_tools.checks import as_plain, check_flag, check_whole_number, show_value, type_error
from sa2va_tools.errors import RequestError, WrongTypeError
from sa2va_tools.model.output import MaskOptions
from sa2va_tools.wording import argument

Mode = Literal["auto", "sa2va", "sa2va-i"]
MAX_LLM_FRAMES = 64
_ACCEPTED: dict[str, tuple[str, type]] = {
    "after": ("an answer handle (answer:…)", str),
    "mode": (f"one of {', '.join(get_args(Mode))}", str),
}
"""What fields take that are no numbers."""


@dataclass(frozen=True, kw_only=True)
class FrameRange:
    """The part of a video that is worked on. Seconds count from the first frame."""

    start_s: float | None = None
    end_s: float | None = None
    stride: int = 1
    """Every n-th frame."""

    def __post_init__(self) -> None:
        """Scalars of NumPy become plain values. TypeError for a wrong type, RequestError for a wrong one."""
        for field in fields(self):
            value = as_plain(getattr(self, field.name))
            if isinstance(value, Rational) and not isinstance(value, int):
                value = float(value)
            object.__setattr__(self, field.name, value)
            if isinstance(field.default, bool):
                check_flag(field.name, value)
            elif not (value is None and field.default is None):
                accepted, kind = _ACCEPTED.get(field.name, ("a number", Real))
                if isinstance(value, bool) or not isinstance(value, kind):
                    raise type_error(field.name, value, accepted)
        check_parent: Callable[[], None] | None = getattr(super(), "__post_init__", None)
        if check_parent is not None:  # the options of masks have their own checks
            check_parent()


@dataclass(frozen=True, kw_only=True)
class DescribeOptions(FrameRange):
    """Of `Engine.describe`. RequestError if a value is impossible."""

    llm_frames: int | None = None
    """Frames of a video that the language model sees, 1 to 64; None takes the checkpoint's number."""
    max_new_tokens: int | None = None
    """Longest answer; None takes the settings' number."""
    after: str | None = None
    """`answer:` handle of an earlier result about the same media, whose conversation this one continues."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_llm_frames(self.llm_frames)
        if self.max_new_tokens is not None:
            check_whole_number("max_new_tokens", self.max_new_tokens, least=1)


@dataclass(frozen=True, kw_only=True)
class SegmentOptions(FrameRange, MaskOptions):
    """Of `Engine.segment`, `stream` and `ground`. RequestError if a value is impossible."""

    mode: Mode = "auto"
    """`sa2va`: the language model sees the first frames; `sa2va-i`: frames spread over the range; `auto`:
    `sa2va-i` if the checkpoint has two mask decoders, else `sa2va`."""
    llm_frames: int | None = None
    """Frames that the language model sees and on which masks begin, 1 to 64. None: as configured."""
    after: str | None = None
    """`answer:` handle of an earlier result about the same media, whose conversation this one continues."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.mode, str) or self.mode not in get_args(Mode):
            raise RequestError(
                f"{argument('mode')} is {show_value(self.mode)}; it must be one of "
                f"{', '.join(get_args(Mode))}.",
                hint="Leave it out to let the checkpoint decide.",
            )
        _check_llm_frames(self.llm_frames)


@dataclass(frozen=True, kw_only=True)
class TrackOptions(FrameRange, MaskOptions):
    """Of `Engine.track`."""

    frame_index: int | None = None
    """Source frame on which the regions are given; None takes the frame where a mask handle's mask is
    largest, or the first of the range."""


class FrameRangeFields(TypedDict, total=False):
    """The fields of `FrameRange` as keyword arguments."""

    start_s: float | None
    end_s: float | None
    stride: int


class MaskFields(TypedDict, total=False):
    """The fields of `MaskOptions` as keyword arguments."""

    threshold: float
    smooth: bool
    gate_by_object_score: bool


class DescribeFields(FrameRangeFields, total=False):
    """The fields of `DescribeOptions` as keyword arguments."""

    llm_frames: int | None
    max_new_tokens: int | None
    after: str | None


class SegmentFields(FrameRangeFields, MaskFields, total=False):
    """The fields of `SegmentOptions` as keyword arguments."""

    mode: Mode
    llm_frames: int | None
    after: str | None


class TrackFields(FrameRangeFields, MaskFields, total=False):
    """The fields of `TrackOptions` as keyword arguments."""

    frame_index: int | None


Options = TypeVar("Options", bound=FrameRange)


def merge_options(kind: type[Options], options: Options | None, changes: Mapping[str, Any]) -> Options:
    """`options`, or the defaults, with these fields changed. TypeError for a field that does not exist."""
    known = [field.name for field in fields(kind)]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise WrongTypeError(f"unknown option {', '.join(unknown)}; the options are {', '.join(known)}")
    if options is not None and not isinstance(options, kind):
        raise WrongTypeError(f"options must be a {kind.__name__}, not {type(options).__name__}")
    return replace(options or kind(), **changes)


def _check_llm_frames(count: int | None) -> None:
    if count is not None and not (isinstance(count, Integral) and 1 <= count <= MAX_LLM_FRAMES):
        raise RequestError(
            f"{argument('llm_frames')} is {show_value(count)}; it must be a whole number from 1 to "
            f"{MAX_LLM_FRAMES}.",
            hint="Leave it out to use the checkpoint's own number.",
        )
