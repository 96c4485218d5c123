"""What the arguments of all tools share, and how wrong ones are explained to the caller."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeVar, get_args

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

from sa2va_tools.engine.options import MAX_LLM_FRAMES, DescribeOptions, Mode, SegmentOptions, TrackOptions
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.engine.regions import MAX_REGIONS, Region
from sa2va_tools.errors import RequestError
from sa2va_tools.run import Run
from sa2va_tools.store.handles import parse_id
from sa2va_tools.wording import argument

_MAX_EXPLAINED = 5
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
    "regions": ("region",),
    "handles": ("handle",),
    "llm_frames": ("key_frames",),
}
"""What callers say for our names, where the spelling is not close."""
Options = TypeVar("Options", DescribeOptions, SegmentOptions, TrackOptions)

Media = Annotated[
    str,
    Field(
        min_length=1,
        description="Path of an image, video or folder of frames (/data/a.mp4), or media handle (media:…).",
    ),
]
LlmFrames = Annotated[
    int | None, Field(ge=1, le=MAX_LLM_FRAMES, description="Video: how many frames the model sees.")
]
After = Annotated[str | None, Field(description="Answer handle (answer:…) to continue.")]


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

    def make_options(self, kind: type[Options], **values: Any) -> Options:
        """The engine's options of this kind; `values` override arguments."""
        return kind(**self.model_dump(include={field.name for field in fields(kind)}) | values)


class MaskArguments(ToolArguments):
    """Which masks are returned, and how they are shaped."""

    gate_by_object_score: bool = Field(True, description="False: keep masks with a low object score.")
    # The engine checks the bounds: in the schema they would cost more than they are worth.
    threshold: FiniteFloat = Field(0.5, description="Minimum pixel probability, 0 to 1.")
    smooth: bool = Field(False, description="Clean up edges and holes.")


class RangeArguments(ToolArguments):
    """The part of a video that is worked on."""

    start_s: FiniteFloat | None = Field(None, ge=0, description="Start time in seconds.")
    end_s: FiniteFloat | None = Field(None, ge=0, description="End time in seconds.")
    stride: int = Field(1, ge=1, le=1000, description="Video: every n-th frame.")


class WordArguments(MaskArguments, RangeArguments):
    """How masks are made from words."""

    mode: Mode = Field(
        "auto",
        description="Frames the model sees: sa2va the first, sa2va-i evenly spread; auto: by checkpoint.",
    )
    llm_frames: LlmFrames = Field(None, description="How many frames the model sees; masks begin on them.")
    after: After = None


class FrameArguments(ToolArguments):
    """One frame of a video, by number or by time."""

    frame_index: int | None = Field(None, ge=0, description="Video: frame number, from 0.")
    time_s: FiniteFloat | None = Field(None, ge=0, description="Time in seconds, instead of frame_index.")


def find_frame(engine: Engine, media: str, arguments: FrameArguments, run: Run) -> int | None:
    """The frame of `frame_index` or `time_s`; None if neither is given."""
    if arguments.frame_index is not None and arguments.time_s is not None:
        raise RequestError(
            f"Both {argument('frame_index')} and {argument('time_s')} are given, and they may name different "
            "frames.",
            hint="Give only one of them.",
        )
    if arguments.time_s is None:
        return arguments.frame_index
    return engine.find_frame(media, arguments.time_s, run=run)


def _as_region_list(value: Any) -> Any:
    """A single region, or a bare mask handle, as a list."""
    items = value if isinstance(value, list | tuple) else [value]
    return [{"mask": item} if isinstance(item, str) else item for item in items]


Texts = Annotated[
    list[str],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One text or several; always a list after validation."""

Regions = Annotated[
    list[Region],
    BeforeValidator(_as_region_list),
    Field(
        min_length=1,
        max_length=MAX_REGIONS,
        description=(
            "Each has exactly one of mask, box_xyxy, points_xy, polygon_xy, rle, e.g. "
            '[{"box_xyxy": [40, 30, 120, 90]}]. Coordinates: source pixels, or 0 to 1 with unit "fraction".'
        ),
    ),
]


class RegionArguments(FrameArguments):
    """What is pointed at, in one frame."""

    regions: Regions
    media: str | None = Field(
        None, min_length=1, description="Path or media handle (media:…); optional if a region is a mask."
    )


def find_place(engine: Engine, arguments: RegionArguments, run: Run) -> tuple[str, int | None]:
    """The media, or that of the first mask handle among the regions; and the frame, None if none is given."""
    media = arguments.media
    if media is None:
        media = next((region.mask for region in arguments.regions if region.mask is not None), None)
        if media is None:
            raise RequestError(
                f"Argument '{argument('media')}' is missing, and no region is a mask handle that "
                "would identify it.",
                hint=f"Give {argument('media')}: the path of the image or video, or its media "
                "handle (media:…).",
            )
        parse_id(media, "mask")
    if arguments.media is None or arguments.time_s is not None:
        media = engine.find_media(media, run=run).handle  # so that it is read once
    return media, find_frame(engine, media, arguments, run)


Arguments = TypeVar("Arguments", bound=ToolArguments)


def explain(error: ValidationError, model: type[BaseModel]) -> RequestError:
    """The same in words that a caller can act on."""
    # A misspelt name explains a missing one, so it comes first.
    problems = sorted(
        error.errors(include_url=False, include_context=False),
        key=lambda problem: problem["type"] != "extra_forbidden",
    )
    sentences = [_sentence(problem, model) for problem in problems[:_MAX_EXPLAINED]]
    if len(problems) > _MAX_EXPLAINED:
        sentences.append(f"… and {len(problems) - _MAX_EXPLAINED} more errors.")
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    optional = [name for name in model.model_fields if name not in required]
    hint = f"Required: {_list_names(required)}. Optional: {_list_names(optional)}."
    return RequestError(" ".join(dict.fromkeys(sentences)), hint=hint)


def _list_names(names: Iterable[str]) -> str:
    return ", ".join(map(argument, names)) or "none"


_LENGTH_PROBLEMS = {"too_short": "few", "too_long": "many"}
_SHAPE_PROBLEMS = ("missing", "tuple_type", "list_type", "model_type", "model_attributes_type", "dict_type")
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
        near = [name for name in known if given in _ALIASES.get(name, ())]
        near = near or difflib.get_close_matches(given, known, n=1, cutoff=_NEAR)
        suggestion = f" Did you mean '{argument(near[0])}'?" if near else ""
        allowed = f" Allowed there: {', '.join(known)}." if is_nested else ""
        return f"Unknown argument {name!r}.{suggestion}{allowed}"
    if len(location) > 1 and problem["type"] in (*_SHAPE_PROBLEMS, *_LENGTH_PROBLEMS):
        wrong = "must be a region object" if len(location) == 2 else "is not valid"
        return f"Argument '{argument(name)}' {wrong} (got {_short(problem)}). {_SHAPES}"
    if problem["type"] in _LENGTH_PROBLEMS:
        return f"Argument '{argument(name)}' has too {_LENGTH_PROBLEMS[problem['type']]} entries."
    if problem["type"] == "missing":
        field = model.model_fields.get(str(location[0]))
        description = (field.description if field else None) or "it is required."
        return f"Missing argument '{argument(name)}': {description}"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"Argument '{argument(name)}': {reason} (got {_short(problem)})."


def _short(problem: Mapping[str, Any]) -> str:
    text = repr(problem["input"])
    return text if len(text) <= 80 else text[:77] + "…"
