"""Masks as files: RLE as JSON, PNGs, an overlay, arrays, COCO and polygons. Whole files or none, and all of
them or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va_tools import atomic
from sa2va_tools.checks import check_path, check_texts, show_value
from sa2va_tools.engine import conversions
from sa2va_tools.engine.export_folder import (
    PNG_FOLDER,
    find_stale,
    is_own,
    name_files,
    remove_empty_folder,
    require_free,
)
from sa2va_tools.engine.mask_object import MaskObject, MediaRef
from sa2va_tools.errors import RequestError
from sa2va_tools.masks.draw import draw_masks
from sa2va_tools.masks.export import (
    ExportedMask,
    ExportedMasks,
    MissingObject,
    write_masks_json,
    write_polygons,
)
from sa2va_tools.masks.png import write_mask_pngs
from sa2va_tools.masks.sheet import draw_legend
from sa2va_tools.media.decode import iter_frames, read_image
from sa2va_tools.media.encode import VideoWriter, encode_image
from sa2va_tools.media.marks import mark_file
from sa2va_tools.media.media import Media
from sa2va_tools.run import Run
from sa2va_tools.wording import argument

DEFAULT_FORMATS = ("json", "png", "overlay")
_WITHOUT_MASKS = ("json", "coco", "polygons")
"""The formats that can say that nothing was found."""
_LEGEND_WIDTH_PX = 640
_ACCEPTED = "a format or a list of formats"


@dataclass(frozen=True, slots=True)
class ExportJob:
    """Objects, and the media that they belong to."""

    ref: MediaRef
    media: Media
    objects: tuple[MaskObject, ...]
    """Those that were found, in the order of their numbers."""
    missing: tuple[MaskObject, ...]
    run: Run

    @property
    def exported(self) -> ExportedMasks:
        return to_exported_masks(self.ref, self.media, (*self.objects, *self.missing))

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
    out_dir: str | PathLike[str],
    formats: str | Sequence[str] | None = None,
    run: Run | None = None,
    *,
    places: Iterable[Path] = (),
) -> dict[str, str]:
    """Write these objects into `out_dir`; see `MaskCollection.save`. `places` are further files with the same
    image or video, which must not be overwritten either. Returns kind → path."""
    target = check_path("out_dir", out_dir)
    if media is None:
        raise RequestError(
            "This result has no access to its image or video, so its files cannot be written here.",
            hint="Use `engine.export(result.handle, …)`.",
        )
    found = tuple(item for item in objects if item.found)
    missing = tuple(item for item in objects if not item.found)
    kinds = dict.fromkeys(("json", *_check_formats(formats)))
    writable = [kind for kind in kinds if found or kind in _WITHOUT_MASKS]
    job = ExportJob(ref, media, found, missing, run or Run())
    names = name_files(writable, is_video=media.kind == "video")
    require_free(target, names.values(), [*places, *([media.path] if media.path else [])])
    stale = partial(find_stale, target, written=names.values())
    with atomic.update_folder(target, is_own=is_own, find_stale=stale) as folder:
        for kind, name in names.items():
            _WRITERS[kind](job, folder / name)
            if name != PNG_FOLDER:
                mark_file(folder / name)
    remove_empty_folder(target)
    return {kind: str(target / name) for kind, name in names.items()}


def _check_formats(formats: str | Sequence[str] | None) -> tuple[str, ...]:
    wanted = DEFAULT_FORMATS if formats is None else tuple(check_texts("formats", formats, _ACCEPTED))
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        problem = f"Unknown format {show_value(unknown[0])}" if unknown else "The list of formats is empty"
        raise RequestError(
            f"{problem}; the formats are {', '.join(FORMATS)}.",
            hint=f"Leave {argument('formats')} out to get json, png and overlay.",
        )
    return wanted


def needs_pixels(formats: str | Sequence[str] | None) -> bool:
    """Whether files of these formats show the image or video itself. RequestError for an unknown format."""
    return "overlay" in _check_formats(formats)


def to_exported_masks(ref: MediaRef, media: Media, objects: Sequence[MaskObject]) -> ExportedMasks:
    """The objects as `masks.export` takes them."""
    info = {"name": ref.name, "size_wh": list(ref.size_wh), "frame_count": ref.frame_count, "fps": ref.fps}
    return ExportedMasks(
        media_info=info,
        objects=[
            ExportedMask(item.handle, item.label, item.score, item.track)
            for item in objects
            if item.track is not None
        ],
        missing=[MissingObject(item.label, item.reason) for item in objects if item.track is None],
        frame_names=conversions.name_frames(media),
    )


# ---- one function per format --------------------------------------------------------------------


def _write_json(job: ExportJob, path: Path) -> None:
    write_masks_json(path, job.exported, job.media.timestamps_s, job.run)


def _write_pngs(job: ExportJob, path: Path) -> None:
    report = partial(job.report, "masks")
    exported = job.exported
    names = exported.frame_names
    write_mask_pngs(path, exported.objects, frame_names=names, on_frame=report, run=job.run)


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
    objects = (*job.objects, *job.missing)
    document = conversions.to_coco(job.ref, objects, job.frame_indices, conversions.name_frames(job.media))
    atomic.write_bytes(path, json.dumps(document, ensure_ascii=False).encode("utf-8", errors="replace"))


def _write_polygons(job: ExportJob, path: Path) -> None:
    write_polygons(path, job.exported, job.run)


def _write_legend(job: ExportJob, path: Path) -> None:
    """The numbers in the overlay, with labels and scores."""
    entries = [
        (number, f"{item.label}  {item.score:.2f}") for number, item in enumerate(job.objects, start=1)
    ]
    atomic.write_bytes(path, encode_image(draw_legend(entries, _LEGEND_WIDTH_PX), "png"))


def _write_overlay(job: ExportJob, path: Path) -> None:
    if job.media.kind == "image":
        atomic.write_bytes(path, encode_image(_draw(job, read_image(job.media), 0), "png"))
    else:
        _write_video(job, path)


def _write_video(job: ExportJob, path: Path) -> None:
    """The frames that have masks, at their own times, shifted to start at 0."""
    media = job.media
    frames = job.frame_indices
    start_s = media.timestamps_s[frames[0]]
    fps = media.fps or Fraction(25)
    with VideoWriter(path, media.size_wh, fps, pixel_aspect=media.pixel_aspect) as writer:
        for done, (frame, picture) in enumerate(iter_frames(media, frames, run=job.run), start=1):
            time_s = media.timestamps_s[frame]
            is_last = frame == media.frame_count - 1
            duration_s = (media.duration_s or time_s) - time_s if is_last else None
            writer.write(_draw(job, picture, frame), time_s - start_s, duration_s)
            job.report("overlay", done, len(frames))


def _draw(job: ExportJob, picture: NDArray[np.uint8], frame: int) -> NDArray[np.uint8]:
    masks = []
    for number, item in enumerate(job.objects, start=1):
        job.run.raise_if_cancelled()
        if item.track is not None and item.track.covers(frame):
            masks.append((number, item.track.mask(frame)))
    return draw_masks(picture, masks, run=job.run)


_WRITERS: Mapping[str, Callable[[ExportJob, Path], None]] = {
    "json": _write_json,
    "png": _write_pngs,
    "overlay": _write_overlay,
    "npz": _write_npz,
    "coco": _write_coco,
    "polygons": _write_polygons,
    "legend": _write_legend,
}
FORMATS = tuple(kind for kind in _WRITERS if kind != "legend")
