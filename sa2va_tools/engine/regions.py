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
from sa2va_tools.engine.leniency import read_fields, read_structure
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


def _as_box(value: Any) -> Any:
    """Four numbers, also as text, in one list too many, or as two corners."""
    numbers = _unwrap(_read_numbers(value))
    if isinstance(numbers, list | tuple) and len(numbers) == 2 and all(map(_is_pair, numbers)):
        return [*numbers[0], *numbers[1]]
    return numbers


def _as_points(value: Any) -> Any:
    """A list of points, also from a single [x, y], as text, or in one list too many."""
    points = _unwrap(_read_numbers(value))
    return [points] if _is_pair(points) else points


def _as_outline(value: Any) -> Any:
    """A list of points, also from COCO's flat x, y, x, y, …"""
    points = _unwrap(_read_numbers(value))
    is_flat = isinstance(points, list | tuple) and len(points) % 2 == 0 and all(map(_is_number, points))
    return list(zip(points[::2], points[1::2], strict=True)) if is_flat else points


def _read_numbers(value: Any) -> Any:
    """A list of numbers that was sent as text, with or without brackets; anything else as it is."""
    value = read_structure(value)
    if not isinstance(value, str):
        return value
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        return value


def _unwrap(value: Any) -> Any:
    """The only list in a list of lists of numbers, unless it is a point."""
    is_wrapped = isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], list | tuple)
    return value[0] if is_wrapped and not _is_pair(value[0]) else value


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Region(BaseModel, metaclass=ExplainedModel):
    """Exactly one of the ways to point. RequestError if a field is wrong."""

    model_config = ConfigDict(extra="forbid")

    mask: str | None = Field(None, description="Mask handle.")
    box_xyxy: Annotated[
        tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None, BeforeValidator(_as_box)
    ] = Field(None, description="[x0, y0, x1, y1]")
    points_xy: Annotated[list[tuple[FiniteFloat, FiniteFloat]] | None, BeforeValidator(_as_points)] = Field(
        None, description="Points inside the object.", min_length=1, max_length=32
    )
    negative_points_xy: Annotated[list[tuple[FiniteFloat, FiniteFloat]], BeforeValidator(_as_points)] = Field(
        default_factory=list, description="Points outside it.", max_length=32
    )
    polygon_xy: Annotated[list[tuple[FiniteFloat, FiniteFloat]] | None, BeforeValidator(_as_outline)] = Field(
        None, description="Outline of the region.", min_length=3, max_length=2000
    )
    rle: RleData | None = Field(None, description="COCO, size is [height, width].")
    unit: Literal["pixel", "fraction"] = Field("pixel", description="Default: pixel.")

    @model_validator(mode="before")
    @classmethod
    def _read_leniently(cls, data: Any) -> Any:
        return read_fields(cls, data) if isinstance(data, Mapping) else data

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
        where = f"{field:.60}: " if field else ""
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
