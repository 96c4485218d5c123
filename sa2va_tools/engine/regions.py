"""Regions that a caller points at: a mask handle, box, point(s), polygon or RLE.

Coordinates are pixels of the source after its orientation is applied, x to the right and y down,
or fractions of width and height (0 … 1) with `unit="fraction"`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator


class RleData(BaseModel):
    """COCO run-length encoding, compressed."""

    model_config = ConfigDict(extra="forbid")

    size: tuple[int, int]
    """[height, width]"""
    counts: str


def _as_points(value: Any) -> Any:
    """A lone [x, y] where a list of points is meant."""
    is_lone = isinstance(value, list | tuple) and len(value) == 2
    return [value] if is_lone and all(isinstance(number, int | float) for number in value) else value


class Region(BaseModel):
    """Exactly one of the ways to point."""

    model_config = ConfigDict(extra="forbid")

    mask: str | None = Field(None, description="mask: handle.")
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
    def _exactly_one(self) -> Region:
        given = [
            name
            for name in ("mask", "box_xyxy", "points_xy", "polygon_xy", "rle")
            if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of mask, box_xyxy, points_xy, polygon_xy, rle; "
                f"got {', '.join(given) or 'none'}"
            )
        if self.negative_points_xy and self.points_xy is None:
            raise ValueError("negative_points_xy goes with points_xy")
        return self
