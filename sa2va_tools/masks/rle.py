"""Masks as COCO run-length encodings: compressed, with `counts` as a string.

Pixels run down the columns (COCO's order). Knows nothing of time, objects or files. Coordinates are
continuous: pixel (x, y) covers [x, x+1) × [y, y+1), so a box's right and bottom edges are exclusive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from sa2va_tools.errors import RequestError

MAX_PIXELS = 64_000_000
"""Bound on height × width of an RLE whose right size is not known beforehand."""

_RLE_HINT = (
    'Give {"size": [height, width], "counts": "<COCO compressed string>"} of the media\'s own size, '
    "or pass the handle of a mask instead."
)
_CHUNK_BITS = 5
_MAX_CHUNKS = 7  # 35 bits with the sign: more than any run of a mask that fits into memory


class Rle(TypedDict):
    """COCO compressed RLE."""

    size: list[int]
    """[height, width]"""
    counts: str


def encode(mask_hw: NDArray[Any]) -> Rle:
    """RLE of `mask_hw` (h, w), bool or uint8, set where not zero. ValueError on another shape or type."""
    if mask_hw.ndim != 2 or 0 in mask_hw.shape:
        raise ValueError(f"mask_hw: expected a non-empty (h, w) array, got shape {mask_hw.shape}")
    if mask_hw.dtype not in (np.bool_, np.uint8):
        raise ValueError(f"mask_hw: expected bool or uint8, got {mask_hw.dtype}")
    set_hw = np.ascontiguousarray(mask_hw != 0).view(np.uint8)
    columns = cv2.transpose(set_hw)  # column order, made much faster than by NumPy
    _reserve(columns)
    return _as_rle(coco.encode(columns.T))


def _reserve(columns: NDArray[np.uint8]) -> None:
    """MemoryError where pycocotools, which writes to what it is not given, too, would find too little memory.
    What is reserved here is not touched, and free again before it begins."""
    most = columns.size + 1  # runs, as if each pixel were one
    try:
        np.empty(_encoding_bytes(most, most), np.uint8)
    except MemoryError:  # that many are rare: count them
        flat = columns.reshape(-1)
        runs = int(np.count_nonzero(flat[1:] != flat[:-1])) + 2
        np.empty(_encoding_bytes(most, runs), np.uint8)


def _encoding_bytes(most: int, runs: int) -> int:
    """What it asks for at once: four bytes for each run that there may be and that there is; then, for the
    latter, six for the text."""
    return max(4 * most + 4 * runs, 10 * runs)


def decode(rle: Rle) -> NDArray[np.bool_]:
    """The mask (h, w), bool, C-contiguous. `rle` is one of ours or went through `validate`.

    Done here, not by pycocotools, whose decoder leans on an array protocol that NumPy 2 deprecates.
    """
    height, width = rle["size"]
    runs = _read_runs(rle["counts"])
    is_set = np.arange(len(runs)) % 2 == 1
    columns = np.repeat(is_set, runs).reshape(width, height)
    return np.asarray(cv2.transpose(columns.view(np.uint8))).view(np.bool_)


def area(rle: Rle) -> int:
    """Pixels that are set."""
    return int(coco.area(rle))


def bounding_box_xyxy(rle: Rle) -> tuple[float, float, float, float] | None:
    """Smallest (x0, y0, x1, y1) around the set pixels, x1 and y1 exclusive; None when none is set."""
    if area(rle) == 0:
        return None
    x, y, width, height = (float(value) for value in coco.toBbox(rle))
    return (x, y, x + width, y + height)


def iou(first: Rle, second: Rle) -> float:
    """Intersection over union, 0 … 1. Two empty masks have IoU 0: nothing overlaps; a metric that
    counts them as agreement must say so itself. ValueError when the sizes differ."""
    if first["size"] != second["size"]:
        raise ValueError(f"size: expected equal [h, w], got {first['size']} and {second['size']}")
    if area(first) == 0 or area(second) == 0:
        return 0.0
    return float(coco.iou([first], [second], [0])[0, 0])


def empty(size_wh: tuple[int, int]) -> Rle:
    """The mask of `size_wh` with no pixel set."""
    width, height = size_wh
    return encode(np.zeros((height, width), dtype=np.bool_))


def from_polygon(points_xy: Sequence[tuple[float, float]], size_wh: tuple[int, int]) -> Rle:
    """The inside of one closed outline, in pixels; crossing outlines fill by the even-odd rule.

    Points may lie outside the image, by its own width and height at most. RequestError on fewer
    than three points, a point that is not finite or lies farther out, or when no pixel is covered.
    """
    width, height = size_wh
    if len(points_xy) < 3:
        raise RequestError(
            f"A polygon needs at least 3 points, got {len(points_xy)}.",
            hint="Give the outline as [[x, y], [x, y], [x, y], …].",
        )
    for x, y in points_xy:
        # NaN fails both comparisons; far points would make the rasteriser walk their whole edge.
        if not (-width <= x <= 2 * width and -height <= y <= 2 * height):
            raise RequestError(
                f"Polygon point ({x}, {y}) lies far outside the {width}×{height} image.",
                hint="Give pixels of the source, x to the right and y down, or set the unit to fraction.",
            )
    flat = [float(value) for point in points_xy for value in point]
    rle = _as_rle(coco.merge(coco.frPyObjects([flat], height, width)))
    if area(rle) == 0:
        raise RequestError(
            f"The polygon covers no pixel of the {width}×{height} image.",
            hint="Check that its points lie inside the image and are not all on one line.",
        )
    return rle


def validate(data: Mapping[str, Any], *, size_wh: tuple[int, int] | None = None) -> Rle:
    """The canonical RLE of what a caller sent; RequestError says what is wrong with it.

    The counts are read here before pycocotools sees them: it trusts them and reads or writes out of
    bounds when they are malformed. `size_wh` is the size that the mask must have; without it the
    size is bounded by MAX_PIXELS.
    """
    height, width = _checked_size(data.get("size"), size_wh)
    counts = data.get("counts")
    if not isinstance(counts, str):
        raise _bad_rle(f"counts must be a string, got {type(counts).__name__}")
    if len(counts) > (height * width + 1) * 2:
        raise _bad_rle(f"counts of {len(counts)} characters are too long for {width}×{height} pixels")
    runs = _read_runs(counts)
    if np.any((runs < 0) | (runs > height * width)):
        raise _bad_rle(f"a run is shorter than 0 or longer than {width}×{height} pixels")
    covered = int(runs.sum())
    if covered != height * width:
        raise _bad_rle(f"its runs cover {covered} pixels, but the size {width}×{height} has {height * width}")
    # Encoding anew drops empty runs, so that equal masks have equal text.
    return encode(decode({"size": [height, width], "counts": counts}))


def _checked_size(size: Any, size_wh: tuple[int, int] | None) -> tuple[int, int]:
    is_pair = isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2
    if not is_pair or any(type(side) is not int or side <= 0 for side in size):
        raise _bad_rle(f"size must be [height, width], two positive whole numbers, got {size!r:.80}")
    height, width = size
    if size_wh is not None and (width, height) != tuple(size_wh):
        raise _bad_rle(
            f"size [{height}, {width}] differs from the media's [{size_wh[1]}, {size_wh[0]}] (height, width)"
        )
    if size_wh is None and height * width > MAX_PIXELS:
        raise _bad_rle(f"size [{height}, {width}] is over {MAX_PIXELS} pixels")
    return height, width


def _read_runs(counts: str) -> NDArray[np.int64]:
    """Run lengths, unset and set by turns. From the fourth on, the text holds differences from the
    run two before; each number is little-endian in groups of five bits, the last one signed."""
    chunks = np.frombuffer(counts.encode("utf-8", errors="replace"), dtype=np.uint8).astype(np.int64) - 48
    if np.any((chunks < 0) | (chunks > 63)):
        raise _bad_rle("counts hold a character that is not part of COCO's compressed form")
    if len(chunks) == 0:
        return chunks
    ends = np.flatnonzero((chunks & 0x20) == 0)
    if len(ends) == 0 or ends[-1] != len(chunks) - 1:
        raise _bad_rle("counts end in the middle of a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CHUNKS:
        raise _bad_rle("counts hold a number that is too long")
    places = np.arange(len(chunks)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((chunks & 0x1F) << (_CHUNK_BITS * places), starts)
    runs -= np.where(chunks[ends] & 0x10, 1 << (_CHUNK_BITS * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _bad_rle(problem: str) -> RequestError:
    return RequestError(f"The RLE mask cannot be used: {problem}.", hint=_RLE_HINT)


def _as_rle(coded: Mapping[str, Any]) -> Rle:
    height, width = coded["size"]
    return {"size": [int(height), int(width)], "counts": coded["counts"].decode("ascii")}
