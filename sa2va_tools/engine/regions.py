"""Regions that a caller points at: a mask handle, box, point(s), polygon or RLE.

Coordinates are pixels of the source after its orientation is applied, x to the right and y down, or fractions
of width and height (0 … 1) with `unit="fraction"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from sa2va_tools.checks import as_items, show_value
from sa2va_tools.errors import RequestError
from sa2va_tools.explained import ExplainedModel

MAX_REGIONS = 32
_ACCEPTED = (
    "a region (a box (x0, y0, x1, y1), a mask handle, a dictionary such as {'points_xy': [[x, y]]} or a "
    "sa2va_tools.Region) or a list of regions"
)
_WAYS = ("mask", "box_xyxy", "points_xy", "polygon_xy", "rle")
RegionLike = Any
"""A `Region`, a dictionary of its fields, a mask handle, or a box as four numbers."""


class RleData(BaseModel):
    """COCO run-length encoding: compressed (`counts` as text) or not (`counts` as a list of run lengths)."""

    model_config = ConfigDict(extra="forbid")

    size: tuple[int, int]
    """[height, width]"""
    counts: str | list[int]


def _as_points(value: Any) -> Any:
    """A single [x, y] as a list of points."""
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    return [value] if is_pair and all(isinstance(number, int | float) for number in value) else value


class Region(BaseModel, metaclass=ExplainedModel):
    """Exactly one of the ways to point. RequestError if a field is wrong."""

    model_config = ConfigDict(extra="forbid")

    mask: str | None = Field(None, description="Mask handle.")
    box_xyxy: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        None, description="[x0, y0, x1, y1]"
    )
    points_xy: Annotated[list[tuple[FiniteFloat, FiniteFloat]] | None, BeforeValidator(_as_points)] = Field(
        None, description="Points inside the object.", min_length=1, max_length=32
    )
    negative_points_xy: Annotated[list[tuple[FiniteFloat, FiniteFloat]], BeforeValidator(_as_points)] = Field(
        default_factory=list, description="Points outside it.", max_length=32
    )
    polygon_xy: list[tuple[FiniteFloat, FiniteFloat]] | None = Field(
        None, description="Outline of the region.", min_length=3, max_length=2000
    )
    rle: RleData | None = Field(None, description="COCO, size is [height, width].")
    unit: Literal["pixel", "fraction"] = "pixel"

    @model_validator(mode="after")
    def _require_exactly_one(self) -> Region:
        given = [name for name in _WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_WAYS)}; got {', '.join(given) or 'none'}")
        if self.negative_points_xy and self.points_xy is None:
            raise ValueError("negative_points_xy needs points_xy")
        return self


def as_region(value: RegionLike) -> Region:
    """A region in any of the forms that callers use. RequestError if it cannot be one."""
    if isinstance(value, Region):
        return value
    fields: Any = value
    if isinstance(value, str):
        fields = {"mask": value}
    elif not isinstance(value, Mapping):
        numbers = _as_numbers(value)
        if numbers is None:
            raise RequestError(
                f"{show_value(value)} is not a region.",
                hint="Give a box (x0, y0, x1, y1), a mask handle (mask:…), or a dictionary such as "
                "{'points_xy': [[x, y]]}.",
            )
        fields = {"box_xyxy": numbers}
    try:
        return Region.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"{field}: " if field else ""
        message = str(first["msg"]).removeprefix("Value error, ")
        raise RequestError(
            f"The region is not valid: {where}{message}.",
            hint=f"A region has exactly one of {', '.join(_WAYS)}.",
        ) from error


def as_regions(regions: RegionLike | Sequence[RegionLike]) -> list[Region]:
    """One region or several. RequestError on none, too many, or a bad one."""
    if isinstance(regions, Iterator):  # it can be read only once
        regions = list(regions)
    is_single = isinstance(regions, Region | Mapping | str) or _as_numbers(regions) is not None
    items = [regions] if is_single else as_items("regions", regions, _ACCEPTED)
    if not 1 <= len(items) <= MAX_REGIONS:
        raise RequestError(
            f"{len(items)} regions were given; 1 to {MAX_REGIONS} are allowed in one call.",
            hint="Give a mask handle, box, points, polygon or RLE; split many over several calls.",
        )
    return [as_region(item) for item in items]


def _as_numbers(value: Any) -> list[float] | None:
    """Four numbers, also out of a NumPy array; None for anything else."""
    try:
        items = list(value)
        numbers = [float(item) for item in items]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == 4 and not any(isinstance(item, str) for item in items) else None
