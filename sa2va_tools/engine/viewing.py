"""One picture of masks over frames: which frames, drawn how large, in how many bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.engine.clip import Clip, check_frame
from sa2va_tools.engine.library import Opened
from sa2va_tools.engine.results import ViewResult
from sa2va_tools.errors import MediaUnreadableError, RequestError
from sa2va_tools.masks.sheet import contact_sheet
from sa2va_tools.media.decode import read_frames
from sa2va_tools.media.encode import encode_image
from sa2va_tools.media.media import Media
from sa2va_tools.progress import CancelToken, check_of
from sa2va_tools.store.records import MaskRecord

_QUALITIES = (90, 80, 70, 55, 40)
_SMALLER = 0.8
_LEAST_SIDE = 64
Masks = Sequence[tuple[str, MaskRecord]]


def draw_view(
    opened: Opened,
    masks: Masks,
    *,
    frame_index: int | None,
    max_frames: int,
    max_side: int,
    max_bytes: int,
    cancel: CancelToken | None = None,
) -> ViewResult:
    """See `Engine.view`. Raises RequestError for sizes that leave nothing to see."""
    if max_frames < 1 or max_side < _LEAST_SIDE or max_bytes < 1000:
        raise RequestError(
            f"A view needs at least 1 frame, {_LEAST_SIDE} pixels and 1000 bytes; asked for "
            f"{max_frames}, {max_side} and {max_bytes}.",
            hint="Leave these arguments out to get their defaults.",
        )
    frames, pictures = _shown(opened.media, masks, frame_index, max_frames, cancel)
    check = check_of(cancel)
    drawn = [_masks_on(masks, frame, check) for frame in frames]
    captions = [_caption(opened.media, frame) for frame in frames]
    side = max_side
    image: bytes | None = None
    while image is None and side >= _LEAST_SIDE:
        try:
            sheet, scale = contact_sheet(pictures, captions, side, objects=drawn, check=check)
        except RequestError:  # so many frames have no room
            if side == max_side:
                raise
            break
        image = _smallest(sheet, max_bytes)
        side = int(side * _SMALLER)
    if image is None:
        raise RequestError(
            f"The picture does not fit into {max_bytes} bytes.", hint="Ask for fewer frames or more bytes."
        )
    legend = tuple((number, handle, record.label) for number, (handle, record) in enumerate(masks, start=1))
    size = (sheet.shape[1], sheet.shape[0])
    warnings = _unseen(masks, frames)
    return ViewResult(image, "image/jpeg", size, legend, tuple(frames), scale, opened.ref, warnings)


def _shown(
    media: Media, masks: Masks, frame_index: int | None, most: int, cancel: CancelToken | None
) -> tuple[list[int], list[NDArray[np.uint8]]]:
    """The asked frame; else frames spread over where the masks are seen, or over the media, up to where its
    decoding breaks off."""
    if frame_index is not None:
        check_frame(media, frame_index)
        return [frame_index], read_frames(media, [frame_index], cancel=cancel)
    seen = sorted({frame for _, record in masks for frame in record.track.visible})
    covered = sorted({frame for _, record in masks for frame in record.track.frame_indices})
    pool = seen or covered or list(range(media.frame_count))
    frames = _spread(pool, most)
    try:
        return frames, read_frames(media, frames, cancel=cancel)
    except MediaUnreadableError:
        readable = Clip(media, tuple(pool), cancel).readable().frame_indices
        if not 0 < len(readable) < len(pool):
            raise
    frames = _spread(readable, most)
    return frames, read_frames(media, frames, cancel=cancel)


def _spread(pool: Sequence[int], most: int) -> list[int]:
    return [pool[pick] for pick in np.linspace(0, len(pool) - 1, min(most, len(pool)), dtype=int)]


def _masks_on(masks: Masks, frame: int, check: Callable[[], None]) -> list[tuple[int, NDArray[np.bool_]]]:
    found = []
    for number, (_, record) in enumerate(masks, start=1):
        check()
        if record.track.covers(frame):
            found.append((number, record.track.mask(frame)))
    return found


def _unseen(masks: Masks, frames: Sequence[int]) -> tuple[str, ...]:
    """Of masks that cover none of the frames shown: nothing drawn does not mean that nothing is there."""
    said = []
    for number, (_, record) in enumerate(masks, start=1):
        covered = record.track.frame_indices
        if covered and not any(record.track.covers(frame) for frame in frames):
            nearest = min(covered, key=lambda frame: abs(frame - frames[0]))
            said.append(
                f"Mask {number} was not looked for on what is shown, so it is not drawn; that does not mean "
                f"that it is not there. The nearest frame that it covers is {nearest}."
            )
    return tuple(said)


def _caption(media: Media, frame: int) -> str:
    return f"frame {frame}  {media.timestamps_s[frame]:.2f} s" if media.kind == "video" else ""


def _smallest(sheet: NDArray[np.uint8], max_bytes: int) -> bytes | None:
    for quality in _QUALITIES:
        image = encode_image(sheet, "jpeg", quality)
        if len(image) <= max_bytes:
            return image
    return None
