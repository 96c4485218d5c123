"""What a caller points at → a mask over one frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.engine.regions import Region
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.model.output import PointPrompt

MAX_REGIONS = 32
Mask = NDArray[np.bool_]
PointMasks = Callable[[Sequence[PointPrompt]], NDArray[np.bool_]]
"""Point prompts on the frame → (n, height, width) masks, by the checkpoint's own SAM-2 head."""


def checked_regions(regions: Region | Sequence[Region]) -> list[Region]:
    """One or several. Raises RequestError."""
    wanted = [regions] if isinstance(regions, Region) else list(regions)
    if not 1 <= len(wanted) <= MAX_REGIONS:
        raise RequestError(
            f"{len(wanted)} regions were given; 1 to {MAX_REGIONS} are allowed in one call.",
            hint="Give a mask handle, box, points, polygon or RLE; split many over several calls.",
        )
    return wanted


def region_masks(
    regions: Sequence[Region],
    frame_index: int,
    size_wh: tuple[int, int],
    *,
    track_of: Callable[[str], MaskTrack],
    masks_from_points: PointMasks,
) -> list[Mask]:
    """One mask per region, (height, width), none of them empty. A box in which SAM-2 sees no object
    stands for itself. Raises RequestError."""
    for region in regions:
        _check_unit(region, size_wh)
    masks: list[Mask | None] = [_given_mask(region, frame_index, size_wh, track_of) for region in regions]
    pointed = [number for number, mask in enumerate(masks) if mask is None]
    if pointed:
        made = masks_from_points([_point_prompt(regions[number], size_wh) for number in pointed])
        for number, mask in zip(pointed, made, strict=True):
            masks[number] = mask if mask.any() else _whole_box(regions[number], size_wh)
    return [_filled(mask, number, frame_index) for number, mask in enumerate(masks, start=1)]


def region_label(region: Region, number: int, label_of: Callable[[str], str]) -> str:
    """A short name: the mask's own label, or how and where it was pointed at."""
    if region.mask is not None:
        return label_of(region.mask)
    if region.box_xyxy is not None:
        return f"region {number} (box {_shown(region.box_xyxy)})"
    if region.points_xy is not None:
        return f"region {number} (point {_shown(region.points_xy[0])})"
    return f"region {number} ({'polygon' if region.polygon_xy is not None else 'mask'})"


def _check_unit(region: Region, size_wh: tuple[int, int]) -> None:
    """Fractions sent as pixels would quietly point at the top left corner."""
    box = region.box_xyxy
    points = [*(region.points_xy or ()), *(region.polygon_xy or ()), *((box[:2], box[2:]) if box else ())]
    if region.unit == "pixel" and points and min(size_wh) > 2 and all(max(x, y) <= 1 for x, y in points):
        raise RequestError(
            f"These coordinates look like fractions, but the unit is pixels: {_shown(points[-1])} in a "
            f"picture of {size_wh[0]} × {size_wh[1]} pixels.",
            hint="Add unit: 'fraction' to the region, or give pixels.",
        )


def _given_mask(
    region: Region, frame_index: int, size_wh: tuple[int, int], track_of: Callable[[str], MaskTrack]
) -> Mask | None:
    """The mask where the region is one already; None where SAM-2 has to make it."""
    if region.mask is not None:
        return _mask_on_frame(region.mask, track_of(region.mask), frame_index)
    if region.rle is not None:
        data = {"size": list(region.rle.size), "counts": region.rle.counts}
        return rle.decode(rle.validate(data, size_wh=size_wh))
    if region.polygon_xy is not None:
        corners = [_pixel(point, region, size_wh) for point in region.polygon_xy]
        return rle.decode(rle.from_polygon(corners, size_wh))
    return None


def _mask_on_frame(handle: str, track: MaskTrack, frame_index: int) -> Mask:
    mask = track.mask(frame_index)
    if not mask.any():
        seen = track.visible
        where = f"it is seen in frames {seen[0]} to {seen[-1]}" if seen else "it is empty in every frame"
        raise RequestError(
            f"{handle} has no pixel in frame {frame_index}; {where}.",
            hint=f"Use frame {track.largest_frame}, where it is largest." if seen else "Use another mask.",
        )
    return mask


def _point_prompt(region: Region, size_wh: tuple[int, int]) -> PointPrompt:
    if region.box_xyxy is not None:
        x0, y0, x1, y1 = region.box_xyxy
        corners = [_pixel((x0, y0), region, size_wh), _pixel((x1, y1), region, size_wh)]
        if corners[0][0] >= corners[1][0] or corners[0][1] >= corners[1][1]:
            raise RequestError(
                f"The box {list(region.box_xyxy)} has no area: x0 < x1 and y0 < y1 are needed.",
                hint="Give [x0, y0, x1, y1] with the top left corner first.",
            )
        return PointPrompt(tuple(_fraction(point, size_wh) for point in corners), (2, 3))
    inside = [_pixel(point, region, size_wh) for point in region.points_xy or []]
    outside = [_pixel(point, region, size_wh) for point in region.negative_points_xy]
    labels = (1,) * len(inside) + (0,) * len(outside)
    return PointPrompt(tuple(_fraction(point, size_wh) for point in (*inside, *outside)), labels)


def _whole_box(region: Region, size_wh: tuple[int, int]) -> Mask | None:
    """Where SAM-2 sees no object in a box, the box itself is the region; a point has no such extent."""
    if region.box_xyxy is None:
        return None
    x0, y0 = _pixel((region.box_xyxy[0], region.box_xyxy[1]), region, size_wh)
    x1, y1 = _pixel((region.box_xyxy[2], region.box_xyxy[3]), region, size_wh)
    mask = np.zeros((size_wh[1], size_wh[0]), bool)
    mask[int(y0) : max(int(y1), int(y0) + 1), int(x0) : max(int(x1), int(x0) + 1)] = True
    return mask


def _pixel(point: tuple[float, float], region: Region, size_wh: tuple[int, int]) -> tuple[float, float]:
    """Pixels of the source. Raises RequestError outside the picture."""
    scale = size_wh if region.unit == "fraction" else (1, 1)
    x, y = point[0] * scale[0], point[1] * scale[1]
    if not (0 <= x <= size_wh[0] and 0 <= y <= size_wh[1]):
        raise RequestError(
            f"The point ({point[0]:g}, {point[1]:g}) in {region.unit}s lies outside the picture, which is "
            f"{size_wh[0]} × {size_wh[1]} pixels.",
            hint="Give pixels of the source (x to the right, y down), or fractions with unit='fraction'.",
        )
    return x, y


def _fraction(point: tuple[float, float], size_wh: tuple[int, int]) -> tuple[float, float]:
    return point[0] / size_wh[0], point[1] / size_wh[1]


def _filled(mask: Mask | None, number: int, frame_index: int) -> Mask:
    if mask is None or not mask.any():
        raise RequestError(
            f"Region {number} is empty on frame {frame_index}: no object was found there.",
            hint="Look at that frame with view first; put the point on the object, or use a box.",
        )
    return mask


def _shown(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
