"""Masks as JSON files: `masks.json` (COCO RLE per object and frame) and `polygons.json`. Files are written
whole or not at all.

`masks.json`, format `sa2va-masks/1`, UTF-8 JSON:

    {"format": "sa2va-masks/1",
     "media": {"name": str, "size_wh": [w, h], "frame_count": int, "fps": "30000/1001" | null, …},
     "objects": [
       {"handle": "mask:…" | null, "label": str, "found": true, "score": 0 … 1,
        "spans": [{"start_frame": int, "end_frame": int, "start_s": float, "end_s": float}],
        "frames": [
          {"frame_index": int, "file_name": str, "time_s": float,
           "rle": {"size": [h, w], "counts": str}, "area": int,
           "box_xyxy": [x0, y0, x1, y1] | null, "object_score": 0 … 1, "mask_score": 0 … 1, "score": 0 … 1,
           "suspect": ["area jump" | "lost" | "full frame", …]}]},
       {"handle": null, "label": str, "found": false, "reason": str, "score": 0, "spans": [], "frames": []}]}

`polygons.json`, format `sa2va-polygons/1`, has the same `media`, and per object and frame the parts of the
mask (see `masks.polygons`) in whole pixels:

    {"format": "sa2va-polygons/1", "media": {…},
     "objects": [
       {"handle": "mask:…" | null, "label": str, "found": true,
        "frames": [
          {"frame_index": int, "file_name": str,
           "polygons": [{"exterior": [[x, y], …], "holes": [[[x, y], …], …]}]}]}]}

Objects that were not found come last, so that the n-th object is number n in pictures. Exported files end
with `written_by` (see `media.marks`). `file_name` is there only if the frames are files of a folder.

Frame indices count the source's frames from 0. Frames that were not searched are absent; a frame without the
object has area 0, box null and no polygons. `mask_score` is the mean probability of the set pixels; `score`
of a frame is its object score times its mask score; `suspect` lists why a mask looks wrong, if it does (see
`masks.suspects`). Both ends of a span belong to it; the box edges x1 and y1 are exclusive.

Knows nothing of stores or models; the description of the media is an argument.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sa2va_tools import atomic
from sa2va_tools.masks import rle
from sa2va_tools.masks.geometry import find_visible_spans
from sa2va_tools.masks.polygons import Ring, trace_polygons
from sa2va_tools.masks.suspects import Reason, find_suspects
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.run import Run, raise_if_cancelled

FORMAT = "sa2va-masks/1"
POLYGON_FORMAT = "sa2va-polygons/1"


class ExportedMask(NamedTuple):
    """One object of an export; its number is its place in the list, from 1."""

    handle: str | None
    label: str
    score: float
    track: MaskTrack


class MissingObject(NamedTuple):
    """What was asked for and not found."""

    label: str
    reason: str


class ExportedMasks(NamedTuple):
    """What `masks.json` and `polygons.json` describe."""

    media_info: Mapping[str, Any]
    """At least name, size_wh, frame_count and fps."""
    objects: Sequence[ExportedMask]
    missing: Sequence[MissingObject] = ()
    frame_names: Sequence[str] = ()
    """The file of each source frame, for a folder of frames; otherwise empty."""


def write_masks_json(
    path: Path, masks: ExportedMasks, timestamps_s: Sequence[float], run: Run | None = None
) -> None:
    """Write `masks.json` frame by frame; see `render_masks_json`. Nothing is written if it raises
    CancelledError, or StoreError because the disk refuses."""
    _write_pieces(path, _iter_masks_json(masks, timestamps_s), run)


def render_masks_json(masks: ExportedMasks, timestamps_s: Sequence[float]) -> str:
    """The text of `masks.json`, as the module's docstring describes it.

    `timestamps_s` are the seconds of every source frame. ValueError if they do not fit the tracks, or if
    something cannot be JSON.
    """
    return "".join(_iter_masks_json(masks, timestamps_s))


def write_polygons(path: Path, masks: ExportedMasks, run: Run | None = None) -> None:
    """Write `polygons.json` frame by frame; arguments and errors are those of `write_masks_json`."""
    entries = (
        ({"handle": entry.handle, "label": entry.label, "found": True}, _iter_polygon_frames(entry, masks))
        for entry in masks.objects
    )
    missing = [
        {"handle": None, "label": entry.label, "found": False, "reason": entry.reason}
        for entry in masks.missing
    ]
    _write_pieces(path, _iter_document(POLYGON_FORMAT, masks.media_info, entries, missing), run)


def _write_pieces(path: Path, pieces: Iterable[str], run: Run | None) -> None:
    with atomic.create_file(path) as file:
        for piece in pieces:
            raise_if_cancelled(run)
            file.write(piece.encode("utf-8", errors="replace"))


def _iter_document(
    format_name: str,
    media_info: Mapping[str, Any],
    entries: Iterable[tuple[Mapping[str, Any], Iterable[Mapping[str, Any]]]],
    missing: Iterable[Mapping[str, Any]],
) -> Iterator[str]:
    """The text of a document in pieces of one frame, because that of a long video is large. `entries`: the
    fields of each object, and its frames; `missing`: the fields of objects without frames."""
    yield _dump({"format": format_name, "media": dict(media_info), "objects": []}).removesuffix("]}")
    all_entries = itertools.chain(entries, ((fields, ()) for fields in missing))
    for number, (fields, frames) in enumerate(all_entries):
        yield ("," if number else "") + _dump({**fields, "frames": []}).removesuffix("]}")
        for position, frame in enumerate(frames):
            yield ("," if position else "") + _dump(frame)
        yield "]}"
    yield "]}"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _iter_masks_json(masks: ExportedMasks, timestamps_s: Sequence[float]) -> Iterator[str]:
    entries = (
        (_describe_object(entry, timestamps_s), _iter_mask_frames(entry, masks, timestamps_s))
        for entry in masks.objects
    )
    missing: list[dict[str, Any]] = [
        {"handle": None, "label": each.label, "found": False, "reason": each.reason, "score": 0, "spans": []}
        for each in masks.missing
    ]
    return _iter_document(FORMAT, masks.media_info, entries, missing)


def _describe_object(entry: ExportedMask, timestamps_s: Sequence[float]) -> dict[str, Any]:
    spans = find_visible_spans(entry.track, timestamps_s)
    return {
        "handle": entry.handle,
        "label": entry.label,
        "found": True,
        "score": entry.score,
        "spans": [
            {"start_frame": s.start_frame, "end_frame": s.end_frame, "start_s": s.start_s, "end_s": s.end_s}
            for s in spans
        ],
    }


def _iter_mask_frames(
    entry: ExportedMask, masks: ExportedMasks, timestamps_s: Sequence[float]
) -> Iterator[dict[str, Any]]:
    track = entry.track
    reasons: dict[int, tuple[Reason, ...]] = {
        suspect.frame_index: suspect.reasons for suspect in find_suspects(track)
    }
    for position, frame_index in enumerate(track.frame_indices):
        encoded = track.rles[position]
        object_score = track.object_scores[position]
        mask_score = track.mask_scores[position]
        yield {
            **_name_frame(masks, frame_index),
            "time_s": float(timestamps_s[frame_index]),
            "rle": encoded,
            "area": rle.area(encoded),
            "box_xyxy": rle.bounding_box_xyxy(encoded),
            "object_score": object_score,
            "mask_score": mask_score,
            "score": object_score * mask_score,
            "suspect": list(reasons.get(frame_index, ())),
        }


def _name_frame(masks: ExportedMasks, frame_index: int) -> dict[str, Any]:
    names = masks.frame_names
    return {"frame_index": frame_index} | ({"file_name": names[frame_index]} if names else {})


def _iter_polygon_frames(entry: ExportedMask, masks: ExportedMasks) -> Iterator[dict[str, Any]]:
    track = entry.track
    for frame_index, encoded in zip(track.frame_indices, track.rles, strict=True):
        polygons = [
            {"exterior": _whole_pixels(part.exterior_xy), "holes": [_whole_pixels(r) for r in part.holes_xy]}
            for part in trace_polygons(rle.decode(encoded))
        ]
        yield {**_name_frame(masks, frame_index), "polygons": polygons}


def _whole_pixels(ring: Ring) -> list[tuple[int, int]]:
    """Unsimplified outlines run along the pixels' edges."""
    return [(int(x), int(y)) for x, y in ring]
