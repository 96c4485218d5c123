"""Masks as COCO run-length encodings: compressed, with `counts` as text.

Pixels are counted down the columns (COCO's order). Coordinates are continuous: pixel (x, y) covers [x, x+1) ×
[y, y+1), so a box's right and bottom edges are exclusive. Knows nothing of time, objects or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from sa2va_tools.errors import RequestError
from sa2va_tools.wording import argument

MAX_PIXELS = 64_000_000
"""The largest height × width of an RLE whose size is not known in advance."""

_RLE_HINT = (
    'Give {"size": [height, width], "counts": "<COCO compressed string>"} (or "counts" as a list of run '
    "lengths) of the media's own size, or pass the handle of a mask instead."
)
_CHUNK_BITS = 5
_MAX_CHUNKS = 7  # 35 bits with the sign: more than any run of a mask that fits into memory


class Rle(TypedDict):
    """COCO compressed RLE."""

    size: list[int]
    """[height, width]"""
    counts: str


def encode(mask_hw: NDArray[Any]) -> Rle:
    """The RLE of `mask_hw` (h, w), bool or uint8, 0 is background. ValueError for another shape or type."""
    if mask_hw.ndim != 2 or 0 in mask_hw.shape:
        raise ValueError(f"mask_hw: expected a non-empty (h, w) array, got shape {mask_hw.shape}")
    if mask_hw.dtype not in (np.bool_, np.uint8):
        raise ValueError(f"mask_hw: expected bool or uint8, got {mask_hw.dtype}")
    set_hw = np.ascontiguousarray(mask_hw != 0).view(np.uint8)
    columns = cv2.transpose(set_hw)  # COCO's order; OpenCV is much faster at this than NumPy
    _require_memory(columns)
    return _as_rle(coco.encode(columns.T))


def _require_memory(columns: NDArray[np.uint8]) -> None:
    """MemoryError if there is too little memory for pycocotools, which does not check its own allocations and
    would write out of bounds. The arrays made here are only requested, never written, and freed at once."""
    max_runs = columns.size + 1  # if every pixel were a run of its own
    try:
        np.empty(_encoder_bytes(max_runs, max_runs), np.uint8)
    except MemoryError:  # real masks have far fewer runs, so count them
        flat = columns.reshape(-1)
        runs = int(np.count_nonzero(flat[1:] != flat[:-1])) + 2
        np.empty(_encoder_bytes(max_runs, runs), np.uint8)


def _encoder_bytes(max_runs: int, runs: int) -> int:
    """The memory that pycocotools allocates at the same time: first four bytes for every possible run and
    four for every actual run; later, for every actual run, these four and six of text."""
    return max(4 * max_runs + 4 * runs, 10 * runs)


def decode(rle: Rle) -> NDArray[np.bool_]:
    """The mask (h, w), bool, C-contiguous. `rle` comes from this module or went through `validate`.

    pycocotools is not used here, because its decoder depends on an array protocol that NumPy 2 deprecates.
    """
    height, width = rle["size"]
    runs = _read_runs(rle["counts"])
    is_set = np.arange(len(runs)) % 2 == 1
    columns = np.repeat(is_set, runs).reshape(width, height)
    return np.asarray(cv2.transpose(columns.view(np.uint8))).view(np.bool_)


def area(rle: Rle) -> int:
    """The number of set pixels."""
    return int(coco.area(rle))


def bounding_box_xyxy(rle: Rle) -> tuple[float, float, float, float] | None:
    """The smallest box (x0, y0, x1, y1) around the set pixels, x1 and y1 exclusive; None if none is set."""
    if area(rle) == 0:
        return None
    x, y, width, height = (float(value) for value in coco.toBbox(rle))
    return (x, y, x + width, y + height)


def iou(first: Rle, second: Rle) -> float:
    """Intersection over union, 0 … 1. Two empty masks have IoU 0, because nothing overlaps; a metric that
    counts them as agreement handles that case itself. ValueError if the sizes differ."""
    if first["size"] != second["size"]:
        raise ValueError(f"size: expected equal [h, w], got {first['size']} and {second['size']}")
    if area(first) == 0 or area(second) == 0:
        return 0.0
    return float(coco.iou([first], [second], [0])[0, 0])


def empty(size_wh: tuple[int, int]) -> Rle:
    """The mask of this size with no pixel set."""
    width, height = size_wh
    return encode(np.zeros((height, width), dtype=np.bool_))


def from_polygon(points_xy: Sequence[tuple[float, float]], size_wh: tuple[int, int]) -> Rle:
    """The inside of one closed outline, in pixels; outlines that cross themselves are filled by the even-odd
    rule.

    Points may lie outside the image, by its own width and height at most. RequestError for fewer than three
    points, a point that is not finite or lies farther out, or an outline that covers no pixel.
    """
    width, height = size_wh
    if len(points_xy) < 3:
        raise RequestError(
            f"A polygon needs at least 3 points, got {len(points_xy)}.",
            hint="Give the outline as [[x, y], [x, y], [x, y], …].",
        )
    for x, y in points_xy:
        # NaN fails both comparisons. Far points would be slow: the rasteriser visits every pixel of an edge.
        if not (-width <= x <= 2 * width and -height <= y <= 2 * height):
            raise RequestError(
                f"Polygon point ({x}, {y}) lies far outside the {width}×{height} image.",
                hint="Give pixels of the source, x to the right and y down, or add "
                f"{argument('unit', 'fraction')}.",
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
    """The canonical form of a caller's RLE, whose `counts` are text (compressed) or a list of run lengths.
    RequestError says what is wrong with it.

    The counts are checked here, because pycocotools reads and writes out of bounds if they are malformed.
    `size_wh` is the size that the mask must have; without it the size is limited to MAX_PIXELS.
    """
    height, width = _check_size(data.get("size"), size_wh)
    counts = data.get("counts")
    if not isinstance(counts, str | list):
        raise _rle_error(f"counts must be text or a list of run lengths, got {type(counts).__name__}")
    if len(counts) > (height * width + 1) * 2:
        raise _rle_error(f"counts of length {len(counts)} are too long for {width}×{height} pixels")
    runs = _read_runs(counts) if isinstance(counts, str) else _read_run_list(counts)
    if np.any((runs < 0) | (runs > height * width)):
        raise _rle_error(f"a run is shorter than 0 or longer than {width}×{height} pixels")
    covered = int(runs.sum())
    if covered != height * width:
        raise _rle_error(
            f"its runs cover {covered} pixels, but the size {width}×{height} has {height * width}"
        )
    # Encoding it once more drops empty runs, so that equal masks have equal text.
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return encode(columns.reshape(width, height).T)


def _check_size(size: Any, size_wh: tuple[int, int] | None) -> tuple[int, int]:
    is_pair = isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2
    if not is_pair or any(type(side) is not int or side <= 0 for side in size):
        raise _rle_error(f"size must be [height, width], two positive whole numbers, got {size!r:.80}")
    height, width = size
    if size_wh is not None and (width, height) != tuple(size_wh):
        raise _rle_error(
            f"size [{height}, {width}] differs from the media's [{size_wh[1]}, {size_wh[0]}] (height, width)"
        )
    if size_wh is None and height * width > MAX_PIXELS:
        raise _rle_error(f"size [{height}, {width}] is over {MAX_PIXELS} pixels")
    return height, width


def _read_runs(counts: str) -> NDArray[np.int64]:
    """Run lengths, alternately unset and set. From the fourth on, the text gives the difference from the run
    two places earlier. Each number is little-endian in groups of five bits, the last one signed."""
    chunks = np.frombuffer(counts.encode("utf-8", errors="replace"), dtype=np.uint8).astype(np.int64) - 48
    if np.any((chunks < 0) | (chunks > 63)):
        raise _rle_error("counts hold a character that is not part of COCO's compressed form")
    if len(chunks) == 0:
        return chunks
    ends = np.flatnonzero((chunks & 0x20) == 0)
    if len(ends) == 0 or ends[-1] != len(chunks) - 1:
        raise _rle_error("counts end in the middle of a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CHUNKS:
        raise _rle_error("counts hold a number that is too long")
    places = np.arange(len(chunks)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((chunks & 0x1F) << (_CHUNK_BITS * places), starts)
    runs -= np.where(chunks[ends] & 0x10, 1 << (_CHUNK_BITS * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _read_run_list(counts: list[Any]) -> NDArray[np.int64]:
    """The uncompressed form: the run lengths themselves."""
    if not all(type(run) is int for run in counts):  # True and 1.0 are no lengths
        raise _rle_error("run lengths must be whole numbers")
    try:
        return np.asarray(counts, np.int64)
    except OverflowError as error:
        raise _rle_error("counts hold a number that is too long") from error


def _rle_error(problem: str) -> RequestError:
    return RequestError(f"The RLE mask cannot be used: {problem}.", hint=_RLE_HINT)


def _as_rle(coded: Mapping[str, Any]) -> Rle:
    height, width = coded["size"]
    return {"size": [int(height), int(width)], "counts": coded["counts"].decode("ascii")}
