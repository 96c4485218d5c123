"""Coordinates that a caller gives → places in the picture.

Detectors and resized coordinates overhang a picture by rounding. What overhangs by at most two pixels, or 1 %
of the side if that is more, is moved to the edge, and a warning says so; what lies farther out is an error,
because it was meant for another picture or in another unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sa2va_tools.engine.regions import Region
from sa2va_tools.errors import RequestError
from sa2va_tools.wording import argument

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Unit = Literal["pixel", "fraction"]
OVERHANG_PX = 2.0
OVERHANG_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Placed:
    """Points in pixels of the source, all inside the picture or on its edge."""

    points: tuple[Point, ...]
    is_moved: bool
    """Whether one of them was outside."""


def place_points(points_xy: Sequence[Point], unit: Unit, size_wh: tuple[int, int]) -> Placed:
    """RequestError for a point that is outside by more than rounding explains."""
    placed = []
    for point in points_xy:
        inside = _place(point, unit, size_wh)
        if inside is None:
            raise _outside_error(f"The point ({point[0]:g}, {point[1]:g})", [point], unit, size_wh)
        placed.append(inside)
    return Placed(tuple(placed), _is_moved(points_xy, placed, unit, size_wh))


def place_box(box_xyxy: Box, unit: Unit, size_wh: tuple[int, int]) -> Placed:
    """The two corners. RequestError for a box without area, or outside by more than rounding explains."""
    shown = f"The box [{', '.join(f'{edge:g}' for edge in box_xyxy)}]"
    if box_xyxy[0] >= box_xyxy[2] or box_xyxy[1] >= box_xyxy[3]:
        raise RequestError(
            f"{shown} has no area: x0 must be less than x1, and y0 less than y1.",
            hint="Give x0, y0, x1, y1 with the top left corner first.",
        )
    given = (box_xyxy[:2], box_xyxy[2:])
    first, last = (_place(corner, unit, size_wh) for corner in given)
    if first is None or last is None or first[0] >= last[0] or first[1] >= last[1]:
        raise _outside_error(shown, given, unit, size_wh)
    return Placed((first, last), _is_moved(given, (first, last), unit, size_wh))


def warn_about_overhang(regions: Sequence[Region], size_wh: tuple[int, int]) -> tuple[str, ...]:
    """A warning that names the regions (from 1) that were moved to the edge; none if there are none."""
    moved = [str(number) for number, region in enumerate(regions, start=1) if _overhangs(region, size_wh)]
    if not moved:
        return ()
    which = f"Region {moved[0]} overhangs" if len(moved) == 1 else f"Regions {', '.join(moved)} overhang"
    return (f"{which} the picture of {size_wh[0]} × {size_wh[1]} pixels a little and was cut at its edge.",)


def format_numbers(numbers: Sequence[float]) -> str:
    """`33,34,128,128`."""
    return ",".join(f"{number:g}" for number in numbers)


def _overhangs(region: Region, size_wh: tuple[int, int]) -> bool:
    if region.box_xyxy is not None:
        return place_box(region.box_xyxy, region.unit, size_wh).is_moved
    points = [*(region.points_xy or ()), *region.negative_points_xy, *(region.polygon_xy or ())]
    return place_points(points, region.unit, size_wh).is_moved


def _scale(point: Point, unit: Unit, size_wh: tuple[int, int]) -> Point:
    return (point[0] * size_wh[0], point[1] * size_wh[1]) if unit == "fraction" else point


def _place(point: Point, unit: Unit, size_wh: tuple[int, int]) -> Point | None:
    """The nearest place in the picture; None if that is not near."""
    x, y = _scale(point, unit, size_wh)
    distances = _find_distances((x, y), size_wh)
    if any(
        distance > max(OVERHANG_PX, OVERHANG_SHARE * side)
        for distance, side in zip(distances, size_wh, strict=True)
    ):
        return None
    return min(max(x, 0.0), float(size_wh[0])), min(max(y, 0.0), float(size_wh[1]))


def _find_distances(point: Point, size_wh: tuple[int, int]) -> list[float]:
    """How far a point is outside in each direction, in pixels; 0 inside."""
    return [max(-place, place - side, 0.0) for place, side in zip(point, size_wh, strict=True)]


def _is_moved(given: Sequence[Point], placed: Sequence[Point], unit: Unit, size_wh: tuple[int, int]) -> bool:
    return any(_scale(point, unit, size_wh) != place for point, place in zip(given, placed, strict=True))


def _format_distance(pixels: float) -> str:
    return f"{pixels:.4g}" if pixels < 10_000 else f"{pixels:,.0f}"


def _outside_error(shown: str, given: Sequence[Point], unit: Unit, size_wh: tuple[int, int]) -> RequestError:
    farthest = max(max(_find_distances(_scale(point, unit, size_wh), size_wh)) for point in given)
    return RequestError(
        f"{shown}, in {unit}s, is {_format_distance(farthest)} pixels outside the picture, which is "
        f"{size_wh[0]} × {size_wh[1]} pixels.",
        hint="Give pixels of the source (x to the right, y down), or fractions (0 to 1) with "
        f"{argument('unit', 'fraction')}.",
    )
