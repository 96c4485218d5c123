"""What a caller points at → a mask over one frame: checked first, without a model, then segmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.engine.placing import (
    OVERHANG_SHARE,
    Box,
    Point,
    format_numbers,
    place_box,
    place_points,
    warn_about_overhang,
)
from sa2va_tools.engine.regions import Region
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.model.output import PointPrompt
from sa2va_tools.wording import argument, call

Mask = NDArray[np.bool_]
SegmentPoints = Callable[[Sequence[PointPrompt]], Mask]
"""Point prompts on the frame → (n, height, width) masks, by the checkpoint's own SAM-2 head."""


@dataclass(frozen=True, slots=True)
class RegionsOnFrame:
    """Regions that were checked against one frame."""

    regions: tuple[Region, ...]
    labels: tuple[str, ...]
    frame_index: int
    size_wh: tuple[int, int]
    pointed: tuple[Mask | PointPrompt, ...]
    """Of each region the mask that it already is, or the points that SAM-2 makes a mask of."""
    warnings: tuple[str, ...] = ()
    """About regions that overhang the picture."""

    def make_masks(self, segment_points: SegmentPoints) -> list[Mask]:
        """One mask per region, (height, width), none of them empty. A box in which SAM-2 finds no object
        becomes the mask itself. RequestError for points without an object."""
        prompts = [item for item in self.pointed if isinstance(item, PointPrompt)]
        segmented = iter(segment_points(prompts) if prompts else ())
        masks = [next(segmented) if isinstance(item, PointPrompt) else item for item in self.pointed]
        return [self._require_pixels(mask, number) for number, mask in enumerate(masks)]

    def _require_pixels(self, mask: Mask, number: int) -> Mask:
        region = self.regions[number]
        if not mask.any() and region.box_xyxy is not None:
            mask = _fill_box(region.box_xyxy, region, self.size_wh)
        if not mask.any():
            raise RequestError(
                f"No object was found at region {number + 1} on frame {self.frame_index}.",
                hint=f"Look at that frame with {call('view')} first; put the point on the object, or "
                "use a box.",
            )
        return mask


def check_regions(
    regions: Sequence[Region],
    frame_index: int,
    size_wh: tuple[int, int],
    find_track: Callable[[str], MaskTrack],
    find_label: Callable[[str], str],
) -> RegionsOnFrame:
    """Regions on a frame; `find_track` and `find_label` look up `mask:` handles. RequestError for one that
    does not fit the picture."""
    for region in regions:
        _check_unit(region, size_wh)
    pointed = [
        _read_mask(region, frame_index, size_wh, find_track)
        if _is_mask(region)
        else _point_prompt(region, size_wh)
        for region in regions
    ]
    labels = [region_label(region, number, find_label) for number, region in enumerate(regions, start=1)]
    warnings = warn_about_overhang(regions, size_wh)
    return RegionsOnFrame(tuple(regions), tuple(labels), frame_index, size_wh, tuple(pointed), warnings)


def region_label(region: Region, number: int, find_label: Callable[[str], str]) -> str:
    """A short name: the mask's own label, or how and where it was pointed at."""
    if region.mask is not None:
        return find_label(region.mask)
    if region.box_xyxy is not None:
        return f"region {number} (box {format_numbers(region.box_xyxy)})"
    if region.points_xy is not None:
        return f"region {number} (point {format_numbers(region.points_xy[0])})"
    return f"region {number} ({'polygon' if region.polygon_xy is not None else 'mask'})"


def _check_unit(region: Region, size_wh: tuple[int, int]) -> None:
    """Fractions sent as pixels would silently point at the top left corner."""
    box = region.box_xyxy
    points = [*(region.points_xy or ()), *(region.polygon_xy or ()), *((box[:2], box[2:]) if box else ())]
    if region.unit == "pixel" and points and min(size_wh) > 2 and all(map(_looks_like_fractions, points)):
        raise RequestError(
            f"These coordinates look like fractions, but the unit is pixels: {format_numbers(points[-1])} in "
            f"a picture of {size_wh[0]} × {size_wh[1]} pixels.",
            hint=f"Add {argument('unit', 'fraction')}, or give pixels.",
        )


def _looks_like_fractions(point: Point) -> bool:
    return all(-OVERHANG_SHARE <= number <= 1 + OVERHANG_SHARE for number in point)


def _is_mask(region: Region) -> bool:
    return region.box_xyxy is None and region.points_xy is None


def _read_mask(
    region: Region, frame_index: int, size_wh: tuple[int, int], find_track: Callable[[str], MaskTrack]
) -> Mask:
    if region.mask is not None:
        return _mask_on_frame(region.mask, find_track(region.mask), frame_index)
    if region.rle is not None:
        data = {"size": list(region.rle.size), "counts": region.rle.counts}
        return rle.decode(rle.validate(data, size_wh=size_wh))
    corners = place_points(region.polygon_xy or (), region.unit, size_wh).points
    return rle.decode(rle.from_polygon(corners, size_wh))


def _mask_on_frame(handle: str, track: MaskTrack, frame_index: int) -> Mask:
    mask = track.mask(frame_index)
    if not mask.any():
        seen = track.visible
        where = f"it is visible in frames {seen[0]} to {seen[-1]}" if seen else "it is empty in every frame"
        raise RequestError(
            f"{handle} is empty on frame {frame_index}; {where}.",
            hint=f"Use frame {track.largest_frame}, where it is largest." if seen else "Use another mask.",
        )
    return mask


def _point_prompt(region: Region, size_wh: tuple[int, int]) -> PointPrompt:
    if region.box_xyxy is not None:
        corners = place_box(region.box_xyxy, region.unit, size_wh).points
        return PointPrompt(tuple(_fraction(point, size_wh) for point in corners), (2, 3))
    inside = place_points(region.points_xy or (), region.unit, size_wh).points
    outside = place_points(region.negative_points_xy, region.unit, size_wh).points
    labels = (1,) * len(inside) + (0,) * len(outside)
    return PointPrompt(tuple(_fraction(point, size_wh) for point in (*inside, *outside)), labels)


def _fill_box(box_xyxy: Box, region: Region, size_wh: tuple[int, int]) -> Mask:
    """The box itself as the mask."""
    (x0, y0), (x1, y1) = place_box(box_xyxy, region.unit, size_wh).points
    mask = np.zeros((size_wh[1], size_wh[0]), bool)
    x0, y0 = min(int(x0), size_wh[0] - 1), min(int(y0), size_wh[1] - 1)
    mask[y0 : max(int(y1), y0 + 1), x0 : max(int(x1), x0 + 1)] = True
    return mask


def _fraction(point: Point, size_wh: tuple[int, int]) -> Point:
    return point[0] / size_wh[0], point[1] / size_wh[1]
