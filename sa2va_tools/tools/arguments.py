"""What the arguments of all tools share, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    model_validator,
)

from sa2va_tools.engine.leniency import is_empty, read_fields, read_structure
from sa2va_tools.engine.options import MAX_LLM_FRAMES, DescribeOptions, Mode, SegmentOptions, TrackOptions
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.engine.regions import MAX_REGIONS, Region
from sa2va_tools.errors import RequestError
from sa2va_tools.run import Run
from sa2va_tools.store.handles import parse_id
from sa2va_tools.wording import argument

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
    """Base of every tool's arguments: unknown names are errors, and empty values of optional arguments mean
    "not given", in regions, too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_leniently(cls, data: Any) -> Any:
        return read_fields(cls, data) if isinstance(data, Mapping) else data

    def make_options(self, kind: type[Options], **values: Any) -> Options:
        """The engine's options of this kind; `values` override arguments."""
        return kind(**self.model_dump(include={field.name for field in fields(kind)}) | values)


class MaskArguments(ToolArguments):
    """Which masks are returned, and how they are shaped."""

    gate_by_object_score: bool = Field(
        True, description="False: keep masks with a low object score. Default: true."
    )
    # The engine checks the bounds: in the schema they would cost more than they are worth.
    threshold: FiniteFloat = Field(0.5, description="Minimum pixel probability, 0 to 1. Default: 0.5.")
    smooth: bool = Field(False, description="Clean up edges and holes. Default: false.")


def _refuse_zero(end_s: float | None) -> float | None:
    """Some frameworks fill in 0 for "not given", and one frame is not what they mean."""
    if end_s == 0:
        raise ValueError("0 would leave only the first frame; leave it out to go to the end")
    return end_s


class RangeArguments(ToolArguments):
    """The part of a video that is worked on."""

    start_s: FiniteFloat | None = Field(None, ge=0, description="Start time in seconds. Default: 0.")
    end_s: Annotated[FiniteFloat | None, AfterValidator(_refuse_zero)] = Field(
        None, ge=0, description="End time in seconds. Default: the end."
    )
    stride: int = Field(1, ge=1, le=1000, description="Video: every n-th frame. Default: 1.")


class WordArguments(MaskArguments, RangeArguments):
    """How masks are made from words."""

    mode: Mode = Field(
        "auto",
        description="Frames the model sees: sa2va the first, sa2va-i evenly spread; auto (default): by "
        "checkpoint.",
    )
    llm_frames: LlmFrames = Field(None, description="How many frames the model sees; masks begin on them.")
    after: After = None


class FrameArguments(ToolArguments):
    """One frame of a video, by number or by time."""

    frame_index: int | None = Field(None, ge=0, description="Video: frame number, from 0.")
    time_s: FiniteFloat | None = Field(None, ge=0, description="Time in seconds, instead of frame_index.")


def find_frame(engine: Engine, media: str, arguments: FrameArguments, run: Run) -> int | None:
    """The frame of `frame_index` or `time_s`; None if neither is given. RequestError if they name different
    frames."""
    if arguments.time_s is None:
        return arguments.frame_index
    frame = engine.find_frame(media, arguments.time_s, run=run)
    if arguments.frame_index not in (None, frame):
        raise RequestError(
            f"{argument('frame_index')} is {arguments.frame_index}, but {argument('time_s')} "
            f"{arguments.time_s:g} is in frame {frame}.",
            hint="Give only one of them.",
        )
    return frame


def _as_region_list(value: Any) -> Any:
    """A single region, a bare mask handle or a box of four numbers, as a list of region objects."""
    if isinstance(value, str):
        return [] if is_empty(value) else [{"mask": value}]
    items = _unwrap(value) if isinstance(value, list | tuple) else [value]
    items = [items] if _is_box(items) else list(map(read_structure, items))
    return [{"mask": item} if isinstance(item, str) else _as_box_object(item) for item in items]


def _as_texts(value: Any) -> Any:
    return [value] if isinstance(value, str) else _unwrap(value)


def _unwrap(items: Any) -> Any:
    """The list in a list with nothing else, unless it is a box."""
    is_wrapped = isinstance(items, list | tuple) and len(items) == 1 and isinstance(items[0], list | tuple)
    return items[0] if is_wrapped and not _is_box(items[0]) else items


def _as_box_object(item: Any) -> Any:
    return {"box_xyxy": item} if _is_box(item) else item


def _is_box(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 4 and all(isinstance(n, int | float) for n in item)


Texts = Annotated[list[str], BeforeValidator(_as_texts)]
"""One text or several; always a list after validation. The schema shows only the list: several frameworks
cannot express both."""

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
