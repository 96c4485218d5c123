"""One picture of masks over frames: which frames, drawn how large, in how many bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.engine.clip import Clip, check_frame
from sa2va_tools.engine.cropping import Window, follow_masks
from sa2va_tools.engine.library import OpenedMedia
from sa2va_tools.engine.results import ViewResult
from sa2va_tools.errors import MediaUnreadableError, RequestError
from sa2va_tools.masks.draw import NumberedMask
from sa2va_tools.masks.duplicates import find_duplicates
from sa2va_tools.masks.sheet import MIN_SHOWN_SIDE, draw_contact_sheet
from sa2va_tools.media.decode import read_frames
from sa2va_tools.media.encode import encode_image
from sa2va_tools.media.media import Media
from sa2va_tools.run import Run
from sa2va_tools.store.records import MaskRecord
from sa2va_tools.wording import argument

_QUALITIES = (90, 80, 70, 55, 40)
_SMALLER = 0.85
_LEAST_SIDE = 64
Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.bool_])
Masks = Sequence[tuple[str, MaskRecord]]


def draw_view(
    opened: OpenedMedia,
    masks: Masks,
    *,
    frame_index: int | None,
    max_frames: int,
    max_side: int,
    max_bytes: int,
    crop: bool = False,
    run: Run,
) -> ViewResult:
    """See `Engine.view`; the result has no file. Raises RequestError for sizes that leave nothing to see."""
    if max_frames < 1 or max_side < _LEAST_SIDE or max_bytes < 1000:
        raise RequestError(
            f"{argument('max_frames')}, {argument('max_side')} and max_bytes must be at least 1, "
            f"{_LEAST_SIDE} and 1000; got {max_frames}, {max_side} and {max_bytes}.",
            hint="Leave these arguments out to get their defaults.",
        )
    shown = _prepare_frames(opened, masks, frame_index, max_frames, crop, run)
    sheet = _fit_sheet(shown, max_side, max_bytes, crop, run)
    legend = tuple((number, handle, record.label) for number, (handle, record) in enumerate(masks, start=1))
    return ViewResult(
        image=sheet.image,
        mime_type="image/jpeg",
        size_wh=sheet.size_wh,
        legend=legend,
        frames=shown.frames,
        scale=sheet.scale,
        shown_wh=(shown.pictures[0].shape[1], shown.pictures[0].shape[0]),
        origins_xy=shown.origins_xy,
        media=opened.ref,
        warnings=(*_warn_about_unsearched(masks, shown.frames), *_warn_about_duplicates(masks)),
    )


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The whole picture, encoded."""

    image: bytes
    size_wh: tuple[int, int]
    scale: float


def _fit_sheet(shown: _ShownFrames, max_side: int, max_bytes: int, crop: bool, run: Run) -> _Sheet:
    """The largest picture that fits. RequestError if not even a small one does."""
    side = max_side
    while side >= _LEAST_SIDE:
        try:
            sheet, scale = draw_contact_sheet(
                shown.pictures,
                shown.captions,
                side,
                objects=shown.masks,
                enlarge_to=side if crop else MIN_SHOWN_SIDE,
                run=run,
            )
        except RequestError:  # too many frames for this size
            if side == max_side:
                raise
            break
        image = _smallest(sheet, max_bytes)
        if image is not None:
            return _Sheet(image, (sheet.shape[1], sheet.shape[0]), scale)
        side = int(side * _SMALLER)
    raise RequestError(
        f"The picture does not fit into {max_bytes} bytes.",
        hint="Use fewer frames or a larger max_bytes.",
    )


@dataclass(frozen=True, slots=True)
class _ShownFrames:
    """What is drawn, frame by frame."""

    frames: tuple[int, ...]
    pictures: list[NDArray[np.uint8]]
    masks: list[list[NumberedMask]]
    captions: list[str]
    origins_xy: tuple[tuple[int, int], ...]


def _prepare_frames(
    opened: OpenedMedia, masks: Masks, frame_index: int | None, most: int, crop: bool, run: Run
) -> _ShownFrames:
    frames, pictures = _pick_frames(opened.media, masks, frame_index, most, run)
    drawn = [_masks_on(masks, frame, run) for frame in frames]
    origins_xy: list[tuple[int, int]] = [(0, 0)] * len(frames)
    if crop:
        windows = _find_windows(opened, masks, frames)
        pictures = [_cut(picture, window) for picture, window in zip(pictures, windows, strict=True)]
        drawn = [
            [(number, _cut(mask, window)) for number, mask in each]
            for each, window in zip(drawn, windows, strict=True)
        ]
        origins_xy = [(x0, y0) for x0, y0, _, _ in windows]
    captions = [_caption(opened.media, frame) for frame in frames]
    return _ShownFrames(tuple(frames), pictures, drawn, captions, tuple(origins_xy))


def _find_windows(opened: OpenedMedia, masks: Masks, frames: Sequence[int]) -> list[Window]:
    """RequestError if there is nothing to crop to."""
    if not masks:
        raise RequestError(
            "There is no mask to crop to.",
            hint=f"Give a mask or answer handle, or leave out {argument('crop')}.",
        )
    windows = follow_masks([record.track for _, record in masks], frames, opened.ref.size_wh)
    if windows is None:
        seen = sorted({frame for _, record in masks for frame in record.track.visible})
        nearest = min(seen, key=lambda frame: abs(frame - frames[0]), default=None)
        raise RequestError(
            f"No mask is visible on frame {frames[0]}, so there is nothing to crop to.",
            hint=f"Leave out {argument('crop')}."
            if nearest is None
            else f"Use frame {nearest}, or leave out {argument('crop')}.",
        )
    return windows


def _cut(pixels: Pixels, window: Window) -> Pixels:
    x0, y0, x1, y1 = window
    return pixels[y0:y1, x0:x1]


def _pick_frames(
    media: Media, masks: Masks, frame_index: int | None, most: int, run: Run
) -> tuple[list[int], list[NDArray[np.uint8]]]:
    """The given frame, or readable frames spread over where the masks are visible, or over the media."""
    if frame_index is not None:
        check_frame(media, frame_index)
        return [frame_index], read_frames(media, [frame_index], run=run)
    seen = sorted({frame for _, record in masks for frame in record.track.visible})
    covered = sorted({frame for _, record in masks for frame in record.track.frame_indices})
    pool = seen or covered or list(range(media.frame_count))
    frames = _spread(pool, most)
    try:
        return frames, read_frames(media, frames, run=run)
    except MediaUnreadableError:
        readable = Clip(media, tuple(pool), run).trim_to_readable().frame_indices
        if not 0 < len(readable) < len(pool):
            raise
    frames = _spread(readable, most)
    return frames, read_frames(media, frames, run=run)


def _spread(pool: Sequence[int], most: int) -> list[int]:
    return [pool[pick] for pick in np.linspace(0, len(pool) - 1, min(most, len(pool)), dtype=int)]


def _masks_on(masks: Masks, frame: int, run: Run) -> list[NumberedMask]:
    found = []
    for number, (_, record) in enumerate(masks, start=1):
        run.raise_if_cancelled()
        if record.track.covers(frame):
            found.append((number, record.track.mask(frame)))
    return found


def _warn_about_unsearched(masks: Masks, frames: Sequence[int]) -> tuple[str, ...]:
    """Masks that were not computed on any of the frames shown: a missing outline does not mean no object."""
    warnings = []
    for number, (_, record) in enumerate(masks, start=1):
        covered = record.track.frame_indices
        if covered and not any(record.track.covers(frame) for frame in frames):
            nearest = min(covered, key=lambda frame: abs(frame - frames[0]))
            warnings.append(
                f"Mask {number} was not computed on the frames shown, so a missing outline does not mean "
                f"that the object is absent. The nearest frame with this mask is {nearest}."
            )
    return tuple(warnings)


def _warn_about_duplicates(masks: Masks) -> list[str]:
    firsts = find_duplicates([record.track for _, record in masks])
    return [
        f"Mask {number} is the same object as mask {first + 1}: they are nearly equal in all frames."
        for number, first in enumerate(firsts, start=1)
        if first is not None
    ]


def _caption(media: Media, frame: int) -> str:
    return f"frame {frame}  {media.timestamps_s[frame]:.2f} s" if media.kind == "video" else ""


def _smallest(sheet: NDArray[np.uint8], max_bytes: int) -> bytes | None:
    for quality in _QUALITIES:
        image = encode_image(sheet, "jpeg", quality)
        if len(image) <= max_bytes:
            return image
    return None
