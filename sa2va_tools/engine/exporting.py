"""Files of a result: RLE as JSON, mask PNGs, and an overlay to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va_tools import atomic
from sa2va_tools.engine.library import Opened
from sa2va_tools.engine.results import ExportResult
from sa2va_tools.errors import RequestError, StoreError
from sa2va_tools.masks.draw import draw_masks
from sa2va_tools.masks.export import ExportedMask, write_mask_pngs, write_masks_json
from sa2va_tools.masks.sheet import legend_strip
from sa2va_tools.media.decode import iter_frames, read_image
from sa2va_tools.media.encode import VideoWriter, encode_image
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback


def write_files(
    opened: Opened,
    objects: Sequence[ExportedMask],
    out_dir: Path,
    *,
    overlay: bool,
    on_progress: ProgressCallback,
    cancel: CancelToken | None,
) -> ExportResult:
    """See `Engine.export`. Raises RequestError without a mask, StoreError where the disk refuses."""
    if not objects:
        raise RequestError("There is no mask to export.", hint="Give a mask: or answer: handle that has one.")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"Cannot make the folder {out_dir}: {error.strerror}.", hint="Choose another one."
        ) from error
    report = _reporter(on_progress, cancel)
    files = {"masks_json": out_dir / "masks.json", "mask_pngs": out_dir / "masks"}
    write_masks_json(files["masks_json"], media_info(opened), objects, opened.media.timestamps_s)
    write_mask_pngs(files["mask_pngs"], objects, on_frame=lambda done, total: report("masks", done, total))
    if overlay:
        files["overlay"] = _write_overlay(opened, objects, out_dir, report, cancel)
    return ExportResult({kind: str(path) for kind, path in files.items()})


def media_info(opened: Opened) -> dict[str, object]:
    """What `masks.json` says of the image or video."""
    ref = opened.ref
    return {"name": ref.name, "size_wh": list(ref.size_wh), "frame_count": ref.frame_count, "fps": ref.fps}


_Report = Callable[[str, int, int], None]


def _write_overlay(
    opened: Opened,
    objects: Sequence[ExportedMask],
    out_dir: Path,
    report: _Report,
    cancel: CancelToken | None,
) -> Path:
    legend = legend_strip(
        [(number, f"{entry.label}  {entry.score:.2f}") for number, entry in enumerate(objects, start=1)],
        opened.media.size_wh[0],
    )
    if opened.media.kind == "image":
        path = out_dir / "overlay.png"
        picture = _drawn(read_image(opened.media), objects, 0, legend)
        atomic.write_bytes(path, encode_image(picture, "png"))
        return path
    return _write_video(opened, objects, out_dir / "overlay.mp4", legend, report, cancel)


def _write_video(
    opened: Opened,
    objects: Sequence[ExportedMask],
    path: Path,
    legend: NDArray[np.uint8],
    report: _Report,
    cancel: CancelToken | None,
) -> Path:
    """The frames that the tracks cover, at their own times, moved to start at 0."""
    media = opened.media
    frames = sorted({index for entry in objects for index in entry.track.frame_indices})
    size = (media.size_wh[0], media.size_wh[1] + len(legend))
    start_s = media.timestamps_s[frames[0]]
    with VideoWriter(path, size, media.fps or Fraction(25)) as writer:
        for done, (frame, picture) in enumerate(iter_frames(media, frames, cancel=cancel), start=1):
            writer.write(_drawn(picture, objects, frame, legend), media.timestamps_s[frame] - start_s)
            report("overlay", done, len(frames))
    return path


def _drawn(
    picture: NDArray[np.uint8], objects: Sequence[ExportedMask], frame: int, legend: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    masks = [
        (number, entry.track.mask(frame))
        for number, entry in enumerate(objects, start=1)
        if entry.track.covers(frame)
    ]
    return np.concatenate([draw_masks(picture, masks), legend])


def _reporter(on_progress: ProgressCallback, cancel: CancelToken | None) -> _Report:
    def report(stage: str, done: int, total: int) -> None:
        if cancel is not None:
            cancel.raise_if_cancelled()
        on_progress(Progress(stage, done, total, f"writing {stage}, frame {done} of {total}"))

    return report
