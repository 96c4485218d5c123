"""Media → pixels: an image, frames of a video by source index, or a stream of them.

Frames are (H, W, 3) uint8 RGB, upright. A frame's index is its position in presentation order. Only one frame
at a time is held, however long the video.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.errors import MediaUnreadableError, RequestError
from sa2va_tools.media.animations import ANIMATED_SUFFIXES, iter_animation
from sa2va_tools.media.container import decode_stream, frame_orientation, open_video
from sa2va_tools.media.failures import translate_decoder_errors
from sa2va_tools.media.frames import frame_to_rgb
from sa2va_tools.media.media import Media
from sa2va_tools.media.nal_units import recovers_gradually, split_units
from sa2va_tools.media.stills import read_still
from sa2va_tools.memory_errors import translate_memory_errors
from sa2va_tools.run import Run

Rgb = NDArray[np.uint8]

_MIN_SEEK_GAP = 32
"""Seeking is tried from this many unwanted frames in a row."""
_HEAD_BYTES = 4096


def read_image(media: Media) -> Rgb:
    """(H, W, 3) uint8 RGB: the image, or the first frame of a video. Raises MediaError, OutOfMemoryError."""
    return read_frames(media, (0,))[0]


def read_frames(media: Media, frame_indices: Sequence[int], *, run: Run | None = None) -> list[Rgb]:
    """All frames at once, in the order of `frame_indices`; repeated ones share an array. RequestError for an
    index out of range, MediaError, OutOfMemoryError, CancelledError."""
    frames = dict(iter_frames(media, sorted(set(frame_indices)), run=run))
    return [frames[index] for index in frame_indices]


def iter_frames(
    media: Media, frame_indices: Sequence[int] | None = None, *, run: Run | None = None
) -> Iterator[tuple[int, Rgb]]:
    """(source index, frame) for strictly increasing `frame_indices` (None: all), one at a time.

    Decoding begins near the first wanted frame if the video can seek, and stops after the last one. Raises
    RequestError at once for indices that are out of range or out of order; while iterating
    MediaUnreadableError for a frame that does not decode, OutOfMemoryError and CancelledError.
    """
    if frame_indices is None:
        frame_indices = range(media.frame_count)
    _check_indices(media, frame_indices)
    return _iter_wanted(media, frame_indices, run or Run())


def _check_indices(media: Media, frame_indices: Sequence[int]) -> None:
    previous = -1
    for index in frame_indices:
        if not 0 <= index < media.frame_count:
            raise RequestError(
                f"Frame {index} is out of range: {media.name} has {media.frame_count} frames.",
                hint=f"Use 0 … {media.frame_count - 1}.",
            )
        if index <= previous:
            raise RequestError("Frame indices must be strictly increasing.", hint="Sort them, each once.")
        previous = index


def _iter_wanted(media: Media, wanted: Sequence[int], run: Run) -> Iterator[tuple[int, Rgb]]:
    remaining = iter(wanted)
    target = next(remaining, None)
    if target is None:
        return
    for index, rgb in _decode(media, wanted, run):
        if index < target:
            continue
        if index > target:
            break
        if rgb.shape[1::-1] != media.size_wh:
            raise _make_change_error(media)
        yield index, rgb
        target = next(remaining, None)
        if target is None:
            return
    raise MediaUnreadableError(
        f"Frame {target} of {media.name} cannot be decoded: the file is damaged there.",
        hint=f"End the range before {media.timestamps_s[target]:.3f} s, or repair the file.",
    )


def _decode(media: Media, wanted: Sequence[int], run: Run) -> Iterator[tuple[int, Rgb]]:
    """(index, frame) in order: all wanted ones that decode, and perhaps others."""
    if media.pixels is not None:
        for index in wanted:
            run.raise_if_cancelled()
            with translate_memory_errors():
                rgb = media.pixels[index].copy()
            yield index, rgb
    elif media.path is None:
        raise MediaUnreadableError(
            f"The pixels of {media.name} are no longer in memory.", hint="Give the image or frames again."
        )
    elif media.kind == "image" or media.files:
        for index in wanted:
            run.raise_if_cancelled()
            yield index, read_still(media.files[index] if media.files else media.path)
    elif f".{media.container}" in ANIMATED_SUFFIXES:
        for index, rgb in enumerate(iter_animation(media.path)):
            run.raise_if_cancelled()
            yield index, media.orientation.apply(rgb)
    else:
        yield from _decode_video(media, media.path, wanted, run)


def _decode_video(media: Media, path: Path, wanted: Sequence[int], run: Run) -> Iterator[tuple[int, Rgb]]:
    """The wanted frames; others are decoded but not converted to RGB."""
    index_of = {stamp: index for index, stamp in enumerate(media.pts)}
    for stretch, seeks in _split_at_gaps(media, path, wanted):
        keep = frozenset(stretch)
        with open_video(path, media.video_stream, damaged=not media.complete) as (container, stream):
            if seeks:
                with translate_decoder_errors(path):
                    container.seek(media.pts[stretch[0]], stream=stream, backward=True)
            for count, frame in enumerate(decode_stream(path, container, stream)):
                run.raise_if_cancelled()
                index = index_of.get(frame.pts, -1) if index_of else count
                if index in keep:
                    rgb = _to_upright_rgb(media, path, frame)
                    may_change = index >= media.same_size_frames
                    yield index, _fit(rgb, media.size_wh) if may_change else rgb
                if index >= stretch[-1]:
                    break


def _split_at_gaps(media: Media, path: Path, wanted: Sequence[int]) -> list[tuple[Sequence[int], bool]]:
    """`wanted`, cut at the gaps that seeking can skip: (indices, whether to seek to the first of them).

    Seeking is used only where it arrives at a key frame after the last frame that is decoded anyway, so
    nothing is decoded twice.
    """
    seekable: list[int] = []
    with open_video(path, media.video_stream) as (container, stream):
        for position, index in enumerate(wanted):
            before = wanted[position - 1] if position else 0
            if not media.pts or index - before < _MIN_SEEK_GAP:
                continue
            arrival = _key_frame_pts(media, container, stream, index)
            if arrival is None or not media.pts[before] < arrival <= media.pts[index]:
                continue
            if not _is_damaged(media, arrival, media.pts[index]):
                seekable.append(position)
    starts = sorted({0, *seekable})
    ends = [*starts[1:], len(wanted)]
    return [(wanted[start:end], start in seekable) for start, end in zip(starts, ends, strict=True)]


def _is_damaged(media: Media, first_pts: int, last_pts: int) -> bool:
    """Whether a frame in this stretch has errors: then its pixels depend on the frames before."""
    start = bisect_left(media.damaged_frames, bisect_left(media.pts, first_pts))
    return start < len(media.damaged_frames) and media.pts[media.damaged_frames[start]] <= last_pts


def _key_frame_pts(media: Media, container: Any, stream: Any, index: int) -> int | None:
    """The timestamp of the key frame at which seeking to frame `index` arrives; None if it does not."""
    try:
        container.seek(media.pts[index], stream=stream, backward=True)
        packet = next(container.demux(stream), None)
    except av.FFmpegError:
        return None  # the container cannot seek: decode from the current position
    if packet is None or not packet.is_keyframe:
        return None
    codec = stream.codec_context
    if codec.name == "h264" and recovers_gradually(
        split_units("h264", codec.extradata or b"", bytes(memoryview(packet)[:_HEAD_BYTES]))
    ):
        return None
    return int(packet.pts) if packet.pts is not None else None


def _to_upright_rgb(media: Media, path: Path, frame: Any) -> Rgb:
    with translate_decoder_errors(path, "decoded", media.size_wh):
        return frame_orientation(frame, media.orientation).apply(frame_to_rgb(frame))


def _fit(rgb: Rgb, size_wh: tuple[int, int]) -> Rgb:
    """A frame of a video, scaled to the size of the first one, where its size changes."""
    if rgb.shape[1::-1] == size_wh:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size_wh, Image.Resampling.BICUBIC))


def _make_change_error(media: Media) -> MediaUnreadableError:
    return MediaUnreadableError(
        f"{media.name} has changed since it was opened: its size is no longer "
        f"{media.size_wh[0]}×{media.size_wh[1]}.",
        hint="Open it again.",
    )
