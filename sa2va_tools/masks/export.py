"""Masks as files: `masks.json` (COCO RLE per object and frame) and PNGs. Whole files or none.

`masks.json`, format `sa2va-masks/1`, UTF-8 JSON:

    {"format": "sa2va-masks/1",
     "media": {"name": str, "size_wh": [w, h], "frame_count": int, "fps": "30000/1001" | null, …},
     "objects": [
       {"handle": "mask:…" | null, "label": str, "score": 0 … 1,
        "spans": [{"start_frame": int, "end_frame": int, "start_s": float, "end_s": float}],
        "frames": [
          {"frame_index": int, "time_s": float,
           "rle": {"size": [h, w], "counts": str}, "area": int,
           "box_xyxy": [x0, y0, x1, y1] | null, "object_score": 0 … 1, "mask_score": 0 … 1, "score": 0 … 1,
           "suspect": ["area jump" | "lost" | "full frame", …]}]}]}

Frame indices count the source's frames from 0. Frames that were not looked at are absent; a frame
without the object has area 0 and box null. `mask_score` is the mean probability of the pixels that are
set; `score` of a frame is its object score times its mask score; `suspect` is empty but where the mask
looks wrong (see `suspects`). Both ends of a span belong to it; box edges x1, y1 are exclusive.

Knows nothing of stores or models; what it says of the media is handed in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools import atomic
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle as rles_of
from sa2va_tools.masks.geometry import visible_spans
from sa2va_tools.masks.palette import color_of
from sa2va_tools.masks.suspects import Reason, suspects
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.progress import unhindered

FORMAT = "sa2va-masks/1"
MASK_PNG = re.compile(r"(object_[0-9]{2,}_)?frame_[0-9]{6,}\.png")
"""What mask PNGs are called."""
MAX_INDEXED = 255
"""Objects that one indexed PNG can tell apart."""
BINARY_UP_TO_FRAMES = 16
"""With no more covered frames than this, each object gets binary PNGs too."""


def is_ours(masks_json: Path) -> bool:
    """Whether an export wrote this `masks.json`, and so the files beside it."""
    start = f'{{"format":"{FORMAT}"'.encode()
    try:
        with masks_json.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False  # none is there, or none that can be read: then nothing is taken for ours


class ExportedMask(NamedTuple):
    """One object to be written; its number is its place in the list, from 1."""

    handle: str | None
    label: str
    score: float
    track: MaskTrack


def write_masks_json(
    path: Path,
    media_info: Mapping[str, Any],
    objects: Sequence[ExportedMask],
    timestamps_s: Sequence[float],
    check: Callable[[], None] = unhindered,
) -> None:
    """Write `masks.json`, frame by frame; see `masks_json`. `check` is called between frames; what it raises
    stops the work and leaves nothing behind. StoreError when the disk refuses."""
    with atomic.new_file(path) as file:
        for piece in _pieces(media_info, objects, timestamps_s):
            check()
            file.write(piece.encode("utf-8", errors="replace"))


def masks_json(
    media_info: Mapping[str, Any], objects: Sequence[ExportedMask], timestamps_s: Sequence[float]
) -> str:
    """The document that the module's docstring describes.

    `media_info` has at least name, size_wh, frame_count and fps; `timestamps_s` the seconds of every
    source frame. ValueError when they do not fit the tracks or are not JSON.
    """
    return "".join(_pieces(media_info, objects, timestamps_s))


def _pieces(
    media_info: Mapping[str, Any], objects: Sequence[ExportedMask], timestamps_s: Sequence[float]
) -> Iterator[str]:
    """The document, a frame at a time: of a long video it is large."""
    start = _text({"format": FORMAT, "media": dict(media_info), "objects": []})
    yield start.removesuffix("]}")
    for number, entry in enumerate(objects):
        track = entry.track
        doubted = {suspect.frame_index: suspect.reasons for suspect in suspects(track)}
        yield ("," if number else "") + _text(_head_json(entry, timestamps_s)).removesuffix("]}")
        for position in range(len(track)):
            frame = _frame_json(track, position, timestamps_s, doubted)
            yield ("," if position else "") + _text(frame)
        yield "]}"
    yield "]}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _head_json(entry: ExportedMask, timestamps_s: Sequence[float]) -> dict[str, Any]:
    """An object without its frames."""
    return {
        "handle": entry.handle,
        "label": entry.label,
        "score": entry.score,
        "spans": [
            {"start_frame": s.start_frame, "end_frame": s.end_frame, "start_s": s.start_s, "end_s": s.end_s}
            for s in visible_spans(entry.track, timestamps_s)
        ],
        "frames": [],
    }


def _frame_json(
    track: MaskTrack, position: int, timestamps_s: Sequence[float], doubted: Mapping[int, Sequence[Reason]]
) -> dict[str, Any]:
    frame_index, rle = track.frame_indices[position], track.rles[position]
    object_score = track.object_scores[position]
    return {
        "frame_index": frame_index,
        "time_s": float(timestamps_s[frame_index]),
        "rle": rle,
        "area": rles_of.area(rle),
        "box_xyxy": rles_of.bounding_box_xyxy(rle),
        "object_score": object_score,
        "mask_score": track.mask_scores[position],
        "score": object_score * track.mask_scores[position],
        "suspect": list(doubted.get(frame_index, ())),
    }


def write_mask_pngs(
    folder: Path,
    objects: Sequence[ExportedMask],
    *,
    binary_up_to_frames: int = BINARY_UP_TO_FRAMES,
    on_frame: Callable[[int, int], None] | None = None,
    check: Callable[[], None] = unhindered,
) -> int:
    """Write the masks of all covered frames into `folder`, which appears whole or not at all.

    `frame_000012.png`: indexed, in the source's size; 0 is nothing, n is the n-th object, in the
    colours of the overlay; where masks overlap the smaller one shows. With few frames also
    `object_03_frame_000012.png`: the third object alone, 0 or 255. Returns the number of files.

    `on_frame(done, total)` is called after each frame, `check` before each mask; what they raise stops the
    work and leaves nothing behind. RequestError on no objects, on more than MAX_INDEXED, or on unequal sizes;
    StoreError when the folder holds other files or the disk refuses.
    """
    _check_objects(objects)
    frames = sorted({index for entry in objects for index in entry.track.frame_indices})
    with_binaries = len(frames) <= binary_up_to_frames
    count = 0
    with atomic.new_folder(folder, may_replace=MASK_PNG) as temporary:
        for done, frame_index in enumerate(frames, start=1):
            masks = []
            for number, entry in enumerate(objects, start=1):
                check()
                if entry.track.covers(frame_index):
                    masks.append((number, entry.track.mask(frame_index)))
            _indexed(masks, check).save(temporary / f"frame_{frame_index:06d}.png")
            count += 1
            for number, mask_hw in masks if with_binaries else ():
                check()
                picture = Image.fromarray(mask_hw.astype(np.uint8) * np.uint8(255))
                picture.save(temporary / f"object_{number:02d}_frame_{frame_index:06d}.png")
                count += 1
            if on_frame is not None:
                on_frame(done, len(frames))
    return count


def _check_objects(objects: Sequence[ExportedMask]) -> None:
    if not 0 < len(objects) <= MAX_INDEXED:
        raise RequestError(
            f"PNG masks can be written for 1 … {MAX_INDEXED} objects, got {len(objects)}.",
            hint="Give the handles of the masks that you need.",
        )
    sizes = sorted({entry.track.size_wh for entry in objects})
    if len(sizes) > 1:
        raise RequestError(
            f"The masks have different sizes (width, height): {sizes}.",
            hint="Export the masks of one image or video at a time.",
        )


def _indexed(masks: Sequence[tuple[int, NDArray[np.bool_]]], check: Callable[[], None]) -> Image.Image:
    canvas = np.zeros(masks[0][1].shape, dtype=np.uint8)
    for number, mask_hw in sorted(masks, key=lambda entry: -np.count_nonzero(entry[1])):
        check()
        canvas[mask_hw] = number
    picture = Image.fromarray(canvas)
    colors = [color_of(number) for number in range(1, MAX_INDEXED + 1)]
    picture.putpalette([0, 0, 0, *(value for color in colors for value in color)])
    return picture
