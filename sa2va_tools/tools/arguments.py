"""What every tool's arguments share, and how wrong ones are explained to the caller.

Knows nothing of engines or front ends.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, TypedDict, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from sa2va_tools.engine.protocol import Engine, Mode
from sa2va_tools.engine.regions import Region
from sa2va_tools.errors import RequestError
from sa2va_tools.progress import CancelToken
from sa2va_tools.store.handles import id_of

MAX_REGIONS = 16
_MAX_EXPLAINED = 5
_NEAR = 0.65
"""How alike two names are, 0 … 1, for one to be suggested."""
_ALIASES = {
    "box": "box_xyxy",
    "bbox": "box_xyxy",
    "point": "points_xy",
    "points": "points_xy",
    "polygon": "polygon_xy",
    "query": "expressions",
    "text": "expressions",
    "expression": "expressions",
    "prompt": "question",
    "frame": "frame_index",
    "path": "media",
    "video": "media",
    "image": "media",
    "region": "regions",
    "handle": "handles",
}
"""What callers say for our names without being near them in letters."""


Media = Annotated[
    str,
    Field(
        min_length=1,
        description="Image, video or folder of frames (/data/a.mp4), or a media: handle.",
    ),
]
OptionalMedia = Annotated[
    str | None,
    Field(
        min_length=1,
        description="Path or media: handle; optional if a region is a mask: handle.",
    ),
]
KeyFrames = Annotated[
    int | None,
    Field(ge=1, le=64, description="Video: how many frames the model sees."),
]
After = Annotated[
    str | None,
    Field(description='An answer: handle to go on from ("and the other one?").'),
]


class Wishes(TypedDict):
    """Keyword arguments of the engine's methods that make masks."""

    gate_by_object_score: bool
    threshold: float
    smooth: bool


class ToolArguments(BaseModel):
    """Base of every tool's arguments: unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_json_text(cls, data: Any) -> Any:
        """Several clients send lists and objects as JSON text; read it where text is not meant."""
        if not isinstance(data, Mapping):
            return data
        return {name: cls._from_json_text(name, value) for name, value in data.items()}

    @classmethod
    def _from_json_text(cls, name: str, value: Any) -> Any:
        field = cls.model_fields.get(name)
        if field is None or not isinstance(value, str) or value[:1] not in "[{" or not value:
            return value
        if field.annotation is str or set(get_args(field.annotation)) == {str, type(None)}:
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value


class FinishArguments(ToolArguments):
    """How masks leave the model."""

    gate_by_object_score: bool = Field(True, description="False: keep doubtful masks.")
    # Its bounds are the engine's to say: in the schema they would cost more than their worth.
    threshold: FiniteFloat = Field(0.5, description="Pixel probability, 0 to 1.")
    smooth: bool = Field(False, description="Clean up edges and holes.")


class RangeArguments(ToolArguments):
    """The part of a video that is worked on."""

    start_s: FiniteFloat | None = Field(None, ge=0, description="Video: from this second.")
    end_s: FiniteFloat | None = Field(None, ge=0, description="Up to this second.")
    stride: int = Field(1, ge=1, le=1000, description="Video: every n-th frame.")


class GroundingArguments(FinishArguments, RangeArguments):
    """How masks are made from words."""

    mode: Mode = Field(
        "auto",
        description="Video key frames: sa2va the first, sa2va-i uniform ones.",
    )
    key_frames: KeyFrames = None


def wishes_of(arguments: FinishArguments) -> Wishes:
    """For the engine's keyword arguments."""
    return {
        "gate_by_object_score": arguments.gate_by_object_score,
        "threshold": arguments.threshold,
        "smooth": arguments.smooth,
    }


class FrameArguments(ToolArguments):
    """One frame of a video, by number or by time."""

    frame_index: int | None = Field(None, ge=0, description="Video: frame, from 0.")
    time_s: FiniteFloat | None = Field(None, ge=0, description="Instead of frame_index: its second.")


def frame_asked_for(engine: Engine, media: str, arguments: FrameArguments, cancel: CancelToken) -> int | None:
    """The frame of `frame_index` or `time_s`; None when neither is given."""
    if arguments.frame_index is not None and arguments.time_s is not None:
        raise RequestError(
            "Both frame_index and time_s are given, and they may name different frames.",
            hint="Give only one of them.",
        )
    if arguments.time_s is None:
        return arguments.frame_index
    return engine.frame_index_at(media, arguments.time_s, cancel=cancel)


def _as_region_list(value: Any) -> Any:
    """A lone region, or a bare mask handle, where a list is meant."""
    items = value if isinstance(value, list | tuple) else [value]
    return [{"mask": item} if isinstance(item, str) else item for item in items]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[
    list[str],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One text or several; always a list once it is checked."""

Regions = Annotated[
    list[Region],
    BeforeValidator(_as_region_list),
    Field(
        min_length=1,
        max_length=MAX_REGIONS,
        description=(
            "Each has exactly one of mask, box_xyxy, points_xy, polygon_xy, rle, e.g. "
            '[{"box_xyxy": [40, 30, 120, 90]}]. Coordinates: source pixels, or 0-1 with unit fraction.'
        ),
    ),
]


class RegionArguments(FrameArguments):
    """What is pointed at, in one frame."""

    regions: Regions
    media: OptionalMedia = None


def place_asked_for(
    engine: Engine, arguments: RegionArguments, cancel: CancelToken
) -> tuple[str, int | None]:
    """The media, or that of the first mask handle among the regions; and the frame, None where none is asked
    for."""
    media = _media_of(engine, arguments, cancel)
    return media, frame_asked_for(engine, media, arguments, cancel)


def _media_of(engine: Engine, arguments: RegionArguments, cancel: CancelToken) -> str:
    if arguments.media is not None:
        if arguments.time_s is None:
            return arguments.media
        return engine.media_of(arguments.media, cancel=cancel).handle  # so that it is read once
    handles = [region.mask for region in arguments.regions if region.mask is not None]
    if not handles:
        raise RequestError(
            "Argument 'media' is missing, and no region is a mask handle that would tell it.",
            hint="Give media: the path of the image or video, or its media: handle.",
        )
    id_of(handles[0], "mask")
    return engine.media_of(handles[0], cancel=cancel).handle


Arguments = TypeVar("Arguments", bound=ToolArguments)


def parse_arguments(model: type[Arguments], raw: Mapping[str, Any]) -> Arguments:
    """`raw` as the tool's arguments. RequestError names what is wrong and what is allowed."""
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        raise explain(error, model) from error


def explain(error: ValidationError, model: type[BaseModel]) -> RequestError:
    """The same in words that a caller can act on."""
    # A misspelt name explains the missing one: say it first.
    problems = sorted(
        error.errors(include_url=False, include_context=False),
        key=lambda problem: problem["type"] != "extra_forbidden",
    )
    sentences = [_sentence(problem, model) for problem in problems[:_MAX_EXPLAINED]]
    if len(problems) > _MAX_EXPLAINED:
        sentences.append(f"{len(problems) - _MAX_EXPLAINED} more arguments are wrong.")
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    optional = [name for name in model.model_fields if name not in required]
    hint = f"Required: {', '.join(required) or 'none'}. Optional: {', '.join(optional) or 'none'}."
    return RequestError(" ".join(dict.fromkeys(sentences)), hint=hint)


_LENGTH_PROBLEMS = {"too_short": "few", "too_long": "many"}
_SHAPE_PROBLEMS = frozenset(
    (
        "missing",
        "tuple_type",
        "list_type",
        "model_type",
        "model_attributes_type",
        "dict_type",
        *_LENGTH_PROBLEMS,
    )
)
_SHAPES = (
    "A region is an object such as {'box_xyxy': [x0, y0, x1, y1]}, {'points_xy': [[x, y]]}, "
    "{'polygon_xy': [[x, y], [x, y], [x, y]]} or {'mask': 'mask:…'}."
)


def _sentence(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    location = problem["loc"]
    name = ".".join(str(part) for part in location) or "arguments"
    if problem["type"] == "extra_forbidden":
        is_nested = len(location) > 1
        known = list(Region.model_fields if is_nested else model.model_fields)
        given = str(location[-1])
        near = [_ALIASES[given]] if _ALIASES.get(given) in known else []
        near = near or difflib.get_close_matches(given, known, n=1, cutoff=_NEAR)
        suggestion = f" Did you mean {near[0]!r}?" if near else ""
        allowed = f" Allowed there: {', '.join(known)}." if is_nested else ""
        return f"Unknown argument {name!r}.{suggestion}{allowed}"
    if len(location) > 1 and problem["type"] in _SHAPE_PROBLEMS:
        return f"Argument {name!r} has the wrong shape (got {_short(problem)}). {_SHAPES}"
    if problem["type"] in _LENGTH_PROBLEMS:
        return f"Argument {name!r} has too {_LENGTH_PROBLEMS[problem['type']]} entries."
    if problem["type"] == "missing":
        return f"Missing argument {name!r}: {_description(location, model)}"
    return f"Argument {name!r}: {problem['msg'].removeprefix('Value error, ')} (got {_short(problem)})."


def _description(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    field = model.model_fields.get(str(location[0]))
    return (field.description if field else None) or "it is required."


def _short(problem: Mapping[str, Any]) -> str:
    text = repr(problem["input"])
    return text if len(text) <= 80 else text[:77] + "…"
