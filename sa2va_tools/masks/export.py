"""Masks as files: `masks.json` (COCO RLE per object and frame), `polygons.json` and PNGs. Files are written
whole or not at all.

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

`polygons.json`, format `sa2va-polygons/1`, has the same `media`, and per object and frame the parts of the
mask (see `masks.polygons`) in whole pixels:

    {"format": "sa2va-polygons/1", "media": {…},
     "objects": [
       {"handle": "mask:…" | null, "label": str,
        "frames": [
          {"frame_index": int,
           "polygons": [{"exterior": [[x, y], …], "holes": [[[x, y], …], …]}]}]}]}

Frame indices count the source's frames from 0. Frames that were not searched are absent; a frame without the
object has area 0, box null and no polygons. `mask_score` is the mean probability of the set pixels; `score`
of a frame is its object score times its mask score; `suspect` lists why a mask looks wrong, if it does (see
`masks.suspects`). Both ends of a span belong to it; the box edges x1 and y1 are exclusive.

Knows nothing of stores or models; the description of the media is an argument.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sa2va_tools import atomic
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle
from sa2va_tools.masks.draw import NumberedMask
from sa2va_tools.masks.geometry import find_visible_spans
from sa2va_tools.masks.palette import pick_color
from sa2va_tools.masks.polygons import Ring, trace_polygons
from sa2va_tools.masks.suspects import Reason, find_suspects
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.run import Run, raise_if_cancelled

FORMAT = "sa2va-masks/1"
POLYGON_FORMAT = "sa2va-polygons/1"
MASK_PNG = re.compile(r"(object_[0-9]{2,}_)?frame_[0-9]{6,}\.png")
"""The names of mask PNGs."""
MAX_INDEXED = 255
"""The number of objects that one indexed PNG can distinguish."""
BINARY_UP_TO_FRAMES = 16
"""With no more covered frames than this, each object gets binary PNGs too."""


def is_masks_export(masks_json: Path) -> bool:
    """Whether an export wrote this `masks.json`, and therefore the files next to it. False if it does not
    exist or cannot be read."""
    start = f'{{"format":"{FORMAT}"'.encode()
    try:
        with masks_json.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False


class ExportedMask(NamedTuple):
    """One object of an export; its number is its place in the list, from 1."""

    handle: str | None
    label: str
    score: float
    track: MaskTrack


# ---- JSON ------------------------------------------------------------------------------------------


def write_masks_json(
    path: Path,
    media_info: Mapping[str, Any],
    objects: Sequence[ExportedMask],
    timestamps_s: Sequence[float],
    run: Run | None = None,
) -> None:
    """Write `masks.json` frame by frame; see `render_masks_json`. Nothing is written if it raises
    CancelledError, or StoreError because the disk refuses."""
    _write_pieces(path, _iter_masks_json(media_info, objects, timestamps_s), run)


def render_masks_json(
    media_info: Mapping[str, Any], objects: Sequence[ExportedMask], timestamps_s: Sequence[float]
) -> str:
    """The text of `masks.json`, as the module's docstring describes it.

    `media_info` has at least name, size_wh, frame_count and fps; `timestamps_s` the seconds of every source
    frame. ValueError if they do not fit the tracks or are not JSON.
    """
    return "".join(_iter_masks_json(media_info, objects, timestamps_s))


def write_polygons(
    path: Path, media_info: Mapping[str, Any], objects: Sequence[ExportedMask], run: Run | None = None
) -> None:
    """Write `polygons.json` frame by frame; arguments and errors are those of `write_masks_json`."""
    entries = (
        ({"handle": entry.handle, "label": entry.label}, _iter_polygon_frames(entry.track))
        for entry in objects
    )
    _write_pieces(path, _iter_document(POLYGON_FORMAT, media_info, entries), run)


def _write_pieces(path: Path, pieces: Iterable[str], run: Run | None) -> None:
    with atomic.create_file(path) as file:
        for piece in pieces:
            raise_if_cancelled(run)
            file.write(piece.encode("utf-8", errors="replace"))


def _iter_document(
    format_name: str,
    media_info: Mapping[str, Any],
    entries: Iterable[tuple[Mapping[str, Any], Iterable[Mapping[str, Any]]]],
) -> Iterator[str]:
    """The text of a document in pieces of one frame, because that of a long video is large. `entries`: the
    fields of each object, and its frames."""
    yield _dump({"format": format_name, "media": dict(media_info), "objects": []}).removesuffix("]}")
    for number, (fields, frames) in enumerate(entries):
        yield ("," if number else "") + _dump({**fields, "frames": []}).removesuffix("]}")
        for position, frame in enumerate(frames):
            yield ("," if position else "") + _dump(frame)
        yield "]}"
    yield "]}"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _iter_masks_json(
    media_info: Mapping[str, Any], objects: Sequence[ExportedMask], timestamps_s: Sequence[float]
) -> Iterator[str]:
    entries = (
        (_describe_object(entry, timestamps_s), _iter_mask_frames(entry.track, timestamps_s))
        for entry in objects
    )
    return _iter_document(FORMAT, media_info, entries)


def _describe_object(entry: ExportedMask, timestamps_s: Sequence[float]) -> dict[str, Any]:
    spans = find_visible_spans(entry.track, timestamps_s)
    return {
        "handle": entry.handle,
        "label": entry.label,
        "score": entry.score,
        "spans": [
            {"start_frame": s.start_frame, "end_frame": s.end_frame, "start_s": s.start_s, "end_s": s.end_s}
            for s in spans
        ],
    }


def _iter_mask_frames(track: MaskTrack, timestamps_s: Sequence[float]) -> Iterator[dict[str, Any]]:
    reasons: dict[int, tuple[Reason, ...]] = {
        suspect.frame_index: suspect.reasons for suspect in find_suspects(track)
    }
    for position, frame_index in enumerate(track.frame_indices):
        encoded = track.rles[position]
        object_score = track.object_scores[position]
        mask_score = track.mask_scores[position]
        yield {
            "frame_index": frame_index,
            "time_s": float(timestamps_s[frame_index]),
            "rle": encoded,
            "area": rle.area(encoded),
            "box_xyxy": rle.bounding_box_xyxy(encoded),
            "object_score": object_score,
            "mask_score": mask_score,
            "score": object_score * mask_score,
            "suspect": list(reasons.get(frame_index, ())),
        }


def _iter_polygon_frames(track: MaskTrack) -> Iterator[dict[str, Any]]:
    for frame_index, encoded in zip(track.frame_indices, track.rles, strict=True):
        polygons = [
            {"exterior": _whole_pixels(part.exterior_xy), "holes": [_whole_pixels(r) for r in part.holes_xy]}
            for part in trace_polygons(rle.decode(encoded))
        ]
        yield {"frame_index": frame_index, "polygons": polygons}


def _whole_pixels(ring: Ring) -> list[tuple[int, int]]:
    """Unsimplified outlines run along the pixels' edges."""
    return [(int(x), int(y)) for x, y in ring]


# ---- PNG -------------------------------------------------------------------------------------------


def write_mask_pngs(
    folder: Path,
    objects: Sequence[ExportedMask],
    *,
    binary_up_to_frames: int = BINARY_UP_TO_FRAMES,
    on_frame: Callable[[int, int], None] | None = None,
    run: Run | None = None,
) -> int:
    """Write the masks of all covered frames into `folder`, which appears whole or not at all. Returns the
    number of files.

    `frame_000012.png`: indexed, in the source's size; 0 is background, n is the n-th object, in the colours
    of the overlay; where masks overlap, the smaller one is on top. With few frames also
    `object_03_frame_000012.png`: the third object alone, 0 or 255.

    `on_frame(done, total)` is called after each frame; if it raises, nothing is written. Raises RequestError
    for no objects, more than MAX_INDEXED or unequal sizes, StoreError if the folder contains other files or
    the disk refuses, CancelledError.
    """
    _check_objects(objects)
    frames = sorted({index for entry in objects for index in entry.track.frame_indices})
    with_binaries = len(frames) <= binary_up_to_frames
    count = 0
    with atomic.create_folder(folder, may_replace=MASK_PNG) as temporary:
        for done, frame_index in enumerate(frames, start=1):
            masks = []
            for number, entry in enumerate(objects, start=1):
                raise_if_cancelled(run)
                if entry.track.covers(frame_index):
                    masks.append((number, entry.track.mask(frame_index)))
            name = f"frame_{frame_index:06d}.png"
            _draw_indexed(masks, run).save(temporary / name)
            if with_binaries:
                _save_binaries(temporary, name, masks, run)
            count += 1 + len(masks) * with_binaries
            if on_frame is not None:
                on_frame(done, len(frames))
    return count


def _save_binaries(folder: Path, name: str, masks: Sequence[NumberedMask], run: Run | None) -> None:
    for number, mask_hw in masks:
        raise_if_cancelled(run)
        picture = Image.fromarray(mask_hw.astype(np.uint8) * np.uint8(255))
        picture.save(folder / f"object_{number:02d}_{name}")


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


def _draw_indexed(masks: Sequence[NumberedMask], run: Run | None) -> Image.Image:
    """All masks of a frame as a palette picture, the largest at the bottom."""
    canvas = np.zeros(masks[0][1].shape, dtype=np.uint8)
    for number, mask_hw in sorted(masks, key=lambda entry: -np.count_nonzero(entry[1])):
        raise_if_cancelled(run)
        canvas[mask_hw] = number
    picture = Image.fromarray(canvas)
    colors = [pick_color(number) for number in range(1, MAX_INDEXED + 1)]
    picture.putpalette([0, 0, 0, *(value for color in colors for value in color)])
    return picture
