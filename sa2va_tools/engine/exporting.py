"""Masks as files: RLE as JSON, PNGs, an overlay, arrays, COCO and polygons. Whole files or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va_tools import atomic
from sa2va_tools.engine import conversions
from sa2va_tools.engine.export_folder import INDEX, OVERLAYS, PNG_FOLDER, require_free
from sa2va_tools.engine.mask_object import MaskObject, MediaRef
from sa2va_tools.errors import RequestError
from sa2va_tools.masks.draw import draw_masks
from sa2va_tools.masks.export import (
    ExportedMask,
    write_mask_pngs,
    write_masks_json,
    write_polygons,
)
from sa2va_tools.masks.sheet import draw_legend
from sa2va_tools.media.decode import iter_frames, read_image
from sa2va_tools.media.encode import VideoWriter, encode_image
from sa2va_tools.media.media import Media
from sa2va_tools.run import Run
from sa2va_tools.wording import argument

DEFAULT_FORMATS = ("json", "png", "overlay")


@dataclass(frozen=True, slots=True)
class ExportJob:
    """Objects with masks, and the media that they belong to."""

    ref: MediaRef
    media: Media
    objects: tuple[MaskObject, ...]
    run: Run

    @property
    def exported(self) -> list[ExportedMask]:
        return to_exported_masks(self.objects)

    @property
    def frame_indices(self) -> list[int]:
        return sorted({frame for item in self.objects for frame in item.frame_indices})

    def report(self, stage: str, done: int, total: int) -> None:
        """Report a frame that was written; raises CancelledError."""
        self.run.raise_if_cancelled()
        self.run.report(stage, done, total, f"writing {stage}, frame {done} of {total}")


def save_objects(
    ref: MediaRef,
    media: Media | None,
    objects: Sequence[MaskObject],
    out_dir: Path,
    formats: Sequence[str] | None = None,
    run: Run | None = None,
) -> dict[str, str]:
    """Write the masks of these objects into `out_dir`; see `MaskCollection.save`. Returns kind → path."""
    wanted = DEFAULT_FORMATS if formats is None else tuple(formats)
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        problem = f"Unknown format {', '.join(unknown)}" if unknown else "The list of formats is empty"
        raise RequestError(
            f"{problem}; the formats are {', '.join(FORMATS)}.",
            hint=f"Leave {argument('formats')} out to get json, png and overlay.",
        )
    found = tuple(item for item in objects if item.found)
    if not found:
        raise RequestError(
            "There is no mask to write: nothing was found.", hint="Look at each object's `reason`."
        )
    if media is None:
        raise RequestError(
            "This result has no access to its image or video, so its files cannot be written here.",
            hint="Use `engine.export(result.handle, …)`.",
        )
    job = ExportJob(ref, media, found, run or Run())
    # masks.json marks the folder as an export, which a later one may replace.
    names = {kind: _file_name(kind, media) for kind in ("json", *wanted)}
    require_free(out_dir, names.values(), media)
    with atomic.update_folder(out_dir) as folder:
        for kind, name in names.items():
            _WRITERS[kind](job, folder / name)
    return {kind: str(out_dir / name) for kind, name in names.items()}


def to_exported_masks(objects: Sequence[MaskObject]) -> list[ExportedMask]:
    """The objects as `masks.export` takes them, without those that were not found."""
    return [
        ExportedMask(item.handle, item.label, item.score, item.track)
        for item in objects
        if item.track is not None
    ]


def media_info(ref: MediaRef) -> dict[str, object]:
    """What `masks.json` says about the image or video."""
    return {"name": ref.name, "size_wh": list(ref.size_wh), "frame_count": ref.frame_count, "fps": ref.fps}


# ---- one function per format --------------------------------------------------------------------


def _write_json(job: ExportJob, path: Path) -> None:
    write_masks_json(path, media_info(job.ref), job.exported, job.media.timestamps_s, job.run)


def _write_pngs(job: ExportJob, path: Path) -> None:
    report = partial(job.report, "masks")
    write_mask_pngs(path, job.exported, on_frame=report, run=job.run)


def _write_npz(job: ExportJob, path: Path) -> None:
    """`masks` (objects, frames, height, width) bool, `frame_indices`, `labels`."""
    width, height = job.ref.size_wh
    frames = job.frame_indices
    masks = np.zeros((len(job.objects), len(frames), height, width), np.bool_)
    for number, item in enumerate(job.objects):
        for at, frame in enumerate(frames):
            job.run.raise_if_cancelled()
            if item.track is not None and item.track.covers(frame):
                masks[number, at] = item.track.mask(frame)
    labels = np.asarray([item.label for item in job.objects])
    with atomic.create_file(path) as file:
        np.savez_compressed(file, masks=masks, frame_indices=np.asarray(frames), labels=labels)


def _write_coco(job: ExportJob, path: Path) -> None:
    document = conversions.to_coco(job.ref, job.objects, job.frame_indices)
    atomic.write_bytes(path, json.dumps(document, ensure_ascii=False).encode("utf-8", errors="replace"))


def _write_polygons(job: ExportJob, path: Path) -> None:
    write_polygons(path, media_info(job.ref), job.exported, job.run)


def _write_overlay(job: ExportJob, path: Path) -> None:
    entries = [
        (number, f"{item.label}  {item.score:.2f}") for number, item in enumerate(job.objects, start=1)
    ]
    legend = draw_legend(entries, job.media.size_wh[0])
    if job.media.kind == "image":
        picture = _draw(job, read_image(job.media), 0, legend)
        atomic.write_bytes(path, encode_image(picture, "png"))
    else:
        _write_video(job, path, legend)


def _write_video(job: ExportJob, path: Path, legend: NDArray[np.uint8]) -> None:
    """The frames that have masks, at their own times, shifted to start at 0."""
    media = job.media
    frames = job.frame_indices
    size = (media.size_wh[0], media.size_wh[1] + len(legend))
    start_s = media.timestamps_s[frames[0]]
    with VideoWriter(path, size, media.fps or Fraction(25), pixel_aspect=media.pixel_aspect) as writer:
        for done, (frame, picture) in enumerate(iter_frames(media, frames, run=job.run), start=1):
            time_s = media.timestamps_s[frame]
            is_last = frame == media.frame_count - 1
            duration_s = (media.duration_s or time_s) - time_s if is_last else None
            writer.write(_draw(job, picture, frame, legend), time_s - start_s, duration_s)
            job.report("overlay", done, len(frames))


def _draw(
    job: ExportJob, picture: NDArray[np.uint8], frame: int, legend: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    masks = []
    for number, item in enumerate(job.objects, start=1):
        job.run.raise_if_cancelled()
        if item.track is not None and item.track.covers(frame):
            masks.append((number, item.track.mask(frame)))
    return np.concatenate([draw_masks(picture, masks, run=job.run), legend])


_WRITERS: Mapping[str, Callable[[ExportJob, Path], None]] = {
    "json": _write_json,
    "png": _write_pngs,
    "overlay": _write_overlay,
    "npz": _write_npz,
    "coco": _write_coco,
    "polygons": _write_polygons,
}
FORMATS = tuple(_WRITERS)
_FILE_NAMES = {
    "json": INDEX,
    "png": PNG_FOLDER,
    "npz": "masks.npz",
    "coco": "coco.json",
    "polygons": "polygons.json",
}


def _file_name(kind: str, media: Media) -> str:
    return OVERLAYS[media.kind == "video"] if kind == "overlay" else _FILE_NAMES[kind]
