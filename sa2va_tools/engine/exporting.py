"""Files of a result: RLE as JSON, mask PNGs, and an overlay to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va_tools import atomic
from sa2va_tools.engine.library import Opened
from sa2va_tools.engine.results import ExportResult
from sa2va_tools.errors import RequestError, StoreError
from sa2va_tools.masks.draw import draw_masks
from sa2va_tools.masks.export import MASK_PNG, ExportedMask, is_ours, write_mask_pngs, write_masks_json
from sa2va_tools.masks.sheet import legend_strip
from sa2va_tools.media.decode import iter_frames, read_image
from sa2va_tools.media.encode import VideoWriter, encode_image
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, check_of

_OVERLAYS = ("overlay.png", "overlay.mp4")


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
    names = {"masks_json": "masks.json", "mask_pngs": "masks"}
    if overlay:
        names["overlay"] = _OVERLAYS[opened.media.kind == "video"]
    _check_free(out_dir, names, opened)
    report = _reporter(on_progress, cancel)
    with atomic.filled(out_dir) as made:
        write_mask_pngs(
            made / "masks",
            objects,
            on_frame=lambda done, total: report("masks", done, total),
            check=check_of(cancel),
        )
        if overlay:
            _write_overlay(opened, objects, made / names["overlay"], report, cancel)
        write_masks_json(
            made / "masks.json", media_info(opened), objects, opened.media.timestamps_s, check_of(cancel)
        )
    return ExportResult({kind: str(out_dir / name) for kind, name in names.items()})


def _check_free(out_dir: Path, names: Mapping[str, str], opened: Opened) -> None:
    """StoreError where a target is somebody else's, RequestError where it is what the masks are of. An
    earlier export may be written anew."""
    if "\0" in str(out_dir):
        raise RequestError("A folder's name cannot hold a NUL character.", hint="Choose another folder.")
    ours = is_ours(out_dir / names["masks_json"])
    # An overlay that is not wanted now must not pass for ours at the next export into this folder.
    names = names if ours else {**{name: name for name in _OVERLAYS}, **names}
    for kind, name in names.items():
        target, source = out_dir / name, opened.media.path.resolve()
        if _is_there(target) and target.resolve() in (source, *source.parents):
            raise RequestError(
                f"{source} is the source of these masks; it would be lost.", hint="Choose another folder."
            )
        foreign = _foreign(target, ours=ours, folder=kind == "mask_pngs")
        if foreign is not None:
            raise StoreError(
                f"{out_dir} holds {foreign.relative_to(out_dir)}, which no export wrote; it would be lost.",
                hint="Choose a new or empty folder.",
            )


def _is_there(target: Path) -> bool:
    """StoreError where the disk knows no such name."""
    try:
        return target.is_symlink() or target.exists()
    except OSError as error:
        raise StoreError(
            f"{target.parent} cannot be a folder: {error.strerror or error}.", hint="Choose another folder."
        ) from error


def _foreign(target: Path, *, ours: bool, folder: bool) -> Path | None:
    """What would be lost at `target`, where a file or a folder is to be written; `ours`: an export has been
    there."""
    if not _is_there(target):
        return None
    if target.is_dir() != folder:
        return target
    if not folder:
        return None if ours else target
    return next(
        (entry for entry in sorted(target.iterdir()) if not (ours and MASK_PNG.fullmatch(entry.name))), None
    )


def media_info(opened: Opened) -> dict[str, object]:
    """What `masks.json` says of the image or video."""
    ref = opened.ref
    return {"name": ref.name, "size_wh": list(ref.size_wh), "frame_count": ref.frame_count, "fps": ref.fps}


_Report = Callable[[str, int, int], None]


def _write_overlay(
    opened: Opened,
    objects: Sequence[ExportedMask],
    path: Path,
    report: _Report,
    cancel: CancelToken | None,
) -> None:
    legend = legend_strip(
        [(number, f"{entry.label}  {entry.score:.2f}") for number, entry in enumerate(objects, start=1)],
        opened.media.size_wh[0],
    )
    if opened.media.kind == "image":
        picture = _drawn(read_image(opened.media), objects, 0, legend, check_of(cancel))
        atomic.write_bytes(path, encode_image(picture, "png"))
        return
    _write_video(opened, objects, path, legend, report, cancel)


def _write_video(
    opened: Opened,
    objects: Sequence[ExportedMask],
    path: Path,
    legend: NDArray[np.uint8],
    report: _Report,
    cancel: CancelToken | None,
) -> None:
    """The frames that the tracks cover, at their own times, moved to start at 0."""
    media = opened.media
    frames = sorted({index for entry in objects for index in entry.track.frame_indices})
    size = (media.size_wh[0], media.size_wh[1] + len(legend))
    start_s = media.timestamps_s[frames[0]]
    with VideoWriter(path, size, media.fps or Fraction(25)) as writer:
        for done, (frame, picture) in enumerate(iter_frames(media, frames, cancel=cancel), start=1):
            drawn = _drawn(picture, objects, frame, legend, check_of(cancel))
            at_s = media.timestamps_s[frame]
            lasts_s = (media.duration_s or at_s) - at_s if frame == media.frame_count - 1 else None
            writer.write(drawn, at_s - start_s, lasts_s)
            report("overlay", done, len(frames))


def _drawn(
    picture: NDArray[np.uint8],
    objects: Sequence[ExportedMask],
    frame: int,
    legend: NDArray[np.uint8],
    check: Callable[[], None],
) -> NDArray[np.uint8]:
    masks = []
    for number, entry in enumerate(objects, start=1):
        check()
        if entry.track.covers(frame):
            masks.append((number, entry.track.mask(frame)))
    return np.concatenate([draw_masks(picture, masks, check=check), legend])


def _reporter(on_progress: ProgressCallback, cancel: CancelToken | None) -> _Report:
    def report(stage: str, done: int, total: int) -> None:
        if cancel is not None:
            cancel.raise_if_cancelled()
        on_progress(Progress(stage, done, total, f"writing {stage}, frame {done} of {total}"))

    return report
