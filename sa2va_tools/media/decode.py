"""Media → pixels: an image, frames of a video by source index, or a stream of them.

Frames are (H, W, 3) uint8 RGB, upright. A frame's index is its place in the order of
presentation. One frame at a time is held, however long the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.errors import MediaUnreadableError, RequestError
from sa2va_tools.media.animations import iter_animation
from sa2va_tools.media.container import opened_video
from sa2va_tools.media.failures import check_memory, decoder_errors
from sa2va_tools.media.media import Media
from sa2va_tools.media.stills import read_still, to_rgb
from sa2va_tools.media.videos import decoded_frames
from sa2va_tools.progress import CancelToken

Rgb = NDArray[np.uint8]

_SEEK_GAP = 32
"""Unwanted frames in a row from which on a jump is tried."""
_ANIMATED = ("gif", "png", "webp")


def read_image(media: Media) -> Rgb:
    """(H, W, 3) uint8 RGB: the image, or the first frame of a video. Raises MediaError."""
    return read_frames(media, (0,))[0]


def read_frames(
    media: Media, frame_indices: Sequence[int], *, cancel: CancelToken | None = None
) -> list[Rgb]:
    """Frames in the order asked for, repeats allowed (repeats share one array). Holds all of them:
    for long lists use `iter_frames`. Raises RequestError for an index out of range, MediaError,
    CancelledError."""
    found = dict(iter_frames(media, sorted(set(frame_indices)), cancel=cancel))
    return [found[index] for index in frame_indices]


def iter_frames(
    media: Media, frame_indices: Sequence[int] | None = None, *, cancel: CancelToken | None = None
) -> Iterator[tuple[int, Rgb]]:
    """(source index, frame) for strictly increasing `frame_indices` (None: all), one at a time.

    Decoding stops after the last wanted frame and starts near the first one where the video can
    be sought. Raises RequestError at once for indices that are out of range or out of order;
    while iterating MediaUnreadableError for a frame that cannot be had, OutOfMemoryError and CancelledError.
    """
    wanted = _checked(media, frame_indices)
    return _wanted_frames(media, wanted, cancel or CancelToken())


def _checked(media: Media, frame_indices: Sequence[int] | None) -> Sequence[int]:
    if frame_indices is None:
        return range(media.frame_count)
    last = -1
    for index in frame_indices:
        if not 0 <= index < media.frame_count:
            raise RequestError(
                f"Frame {index} is out of range: {media.name} has {media.frame_count} frames.",
                hint=f"Use 0 … {media.frame_count - 1}.",
            )
        if index <= last:
            raise RequestError("Frame indices must be strictly increasing.", hint="Sort them, each once.")
        last = index
    return frame_indices


def _wanted_frames(media: Media, wanted: Sequence[int], cancel: CancelToken) -> Iterator[tuple[int, Rgb]]:
    if not wanted:
        return
    remaining = iter(wanted)
    target = next(remaining)
    for index, rgb in _source(media, wanted, cancel):
        if index < target:
            continue
        if index > target:
            break
        if rgb.shape[1::-1] != media.size_wh:
            raise _changed(media)
        yield index, rgb
        following = next(remaining, None)
        if following is None:
            return
        target = following
    check_memory(media.path, media.size_wh)
    raise MediaUnreadableError(
        f"Frame {target} of {media.name} cannot be decoded: the file is damaged there.",
        hint=f"End the range before {media.timestamps_s[target]:.3f} s, or repair the file.",
    )


def _source(media: Media, wanted: Sequence[int], cancel: CancelToken) -> Iterator[tuple[int, Rgb]]:
    """(index, frame), rising, with at least the wanted ones as far as they decode."""
    if media.kind == "image":
        cancel.raise_if_cancelled()
        yield 0, read_still(media.path)
    elif media.files:
        for index in wanted:
            cancel.raise_if_cancelled()
            yield index, read_still(media.files[index])
    elif media.container in _ANIMATED:
        for index, rgb in enumerate(iter_animation(media.path)):
            cancel.raise_if_cancelled()
            yield index, rgb
    else:
        yield from _video_frames(media, wanted, cancel)


def _video_frames(media: Media, wanted: Sequence[int], cancel: CancelToken) -> Iterator[tuple[int, Rgb]]:
    """Frames of a file; those that are not wanted are decoded but never turned into RGB."""
    index_of = {stamp: index for index, stamp in enumerate(media.pts)}
    for run, seeks in _runs(media, wanted):
        keep = frozenset(run)
        with opened_video(media.path) as (container, stream):
            if seeks:
                with decoder_errors(media.path):
                    container.seek(media.pts[run[0]], stream=stream, backward=True)
            for count, frame in enumerate(decoded_frames(media.path, container, stream)):
                cancel.raise_if_cancelled()
                index = index_of.get(frame.pts, -1) if index_of else count
                if index in keep:
                    yield index, _rgb_of(media, frame)
                if index >= run[-1]:
                    break


def _runs(media: Media, wanted: Sequence[int]) -> list[tuple[Sequence[int], bool]]:
    """`wanted` cut where a gap can be jumped: (indices, whether to seek to the first of them).

    A jump is taken only when it lands on a key frame after the last frame that is decoded anyway;
    so nothing is decoded twice.
    """
    seekable: list[int] = []
    with opened_video(media.path) as (container, stream):
        for place, index in enumerate(wanted):
            before = wanted[place - 1] if place else 0
            if not media.pts or index - before < _SEEK_GAP:
                continue
            landed = _landing_pts(media, container, stream, index)
            if landed is not None and media.pts[before] < landed <= media.pts[index]:
                seekable.append(place)
    starts = sorted({0, *seekable})
    ends = [*starts[1:], len(wanted)]
    return [(wanted[a:b], a in seekable) for a, b in zip(starts, ends, strict=True)]


def _landing_pts(media: Media, container: Any, stream: Any, index: int) -> int | None:
    """The stamp of the key frame that seeking to frame `index` arrives at; None if at no such."""
    try:
        container.seek(media.pts[index], stream=stream, backward=True)
        packet = next(container.demux(stream), None)
    except av.FFmpegError:
        return None  # the container cannot be sought: decode from where we are
    return packet.pts if packet is not None and packet.is_keyframe else None


def _rgb_of(media: Media, frame: Any) -> Rgb:
    with decoder_errors(media.path, "decoded", media.size_wh):
        if any(component.is_alpha for component in frame.format.components):
            rgb = to_rgb(Image.fromarray(frame.to_ndarray(format="rgba")))
        else:
            rgb = frame.to_ndarray(format="rgb24")
        return media.orientation.apply(rgb)


def _changed(media: Media) -> MediaUnreadableError:
    return MediaUnreadableError(
        f"{media.name} has changed since it was opened: its size is no longer "
        f"{media.size_wh[0]}×{media.size_wh[1]}.",
        hint="Open it again.",
    )
