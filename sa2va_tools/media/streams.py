"""Which of a file's video streams is read: the one that a caller chose, else the film that players show.

Streams are numbered as FFmpeg numbers them (`v:0`, `v:1`, …). Players show the stream flagged default; of
several, we take the one with most pixels. A cover picture is never the film: neither one that is marked as
such, nor a stream of a single picture beside a film or a sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import av

from sa2va_tools.errors import MediaUnreadableError, RequestError, WrongTypeError
from sa2va_tools.memory_errors import is_memory_error
from sa2va_tools.wording import argument

_PICTURE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff", "apng", "jpeg2000", "jpegxl"})
"""Codecs of still pictures; some films use them too."""
_MAX_LISTED = 8


@dataclass(frozen=True, slots=True)
class StreamChoice:
    """The stream that is read."""

    number: int
    """N of FFmpeg's `v:N`."""
    warnings: tuple[str, ...] = ()
    """About other films in the file."""


def check_stream_number(number: object) -> int | None:
    """A `video_stream` as a caller gives it. TypeError, RequestError."""
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise WrongTypeError(
            f"{argument('video_stream')} has type {type(number).__name__}; expected a whole number."
        )
    if number < 0:
        raise RequestError(
            f"{argument('video_stream')} is {number}; video streams are numbered from 0.",
            hint=f"Leave out {argument('video_stream')} to read the stream that players show.",
        )
    return int(number)


def choose_stream(path: Path, container: Any, number: int | None) -> StreamChoice:
    """The stream to read; `number` is the caller's choice. May move the container's position.

    RequestError if the file has no video stream of that number, MediaUnreadableError if it has no film.
    """
    streams = list(container.streams.video)
    if number is not None:
        if number >= len(streams):
            raise _number_error(path, streams, number)
        if streams[number].codec_context is None:
            raise _codec_error(path)
        return StreamChoice(number)
    films = _find_films(path, container, streams)
    readable = [at for at in films if streams[at].codec_context is not None]
    if not readable:
        raise _codec_error(path) if films else _no_film_error(path, container, streams)
    flagged = [at for at in readable if streams[at].disposition & av.stream.Disposition.default]
    chosen = max(flagged or readable, key=lambda at: (streams[at].width * streams[at].height, -at))
    return StreamChoice(chosen, _other_films_warning(path, streams, readable, chosen))


def _find_films(path: Path, container: Any, streams: Sequence[Any]) -> list[int]:
    """Numbers of the video streams that are not cover pictures."""
    numbers = [at for at, stream in enumerate(streams) if not _is_marked_as_picture(stream)]
    if len(numbers) < 2 and not container.streams.audio:
        return numbers
    pictures = [at for at in numbers if _codec_name(streams[at]) in _PICTURE_CODECS]
    single = _find_single_pictures(container, [streams[at] for at in pictures])
    return [at for at in numbers if streams[at].index not in single]


def _is_marked_as_picture(stream: Any) -> bool:
    marks = av.stream.Disposition
    return bool(stream.disposition & (marks.attached_pic | marks.timed_thumbnails | marks.dependent))


def _codec_name(stream: Any) -> str:
    return "" if stream.codec_context is None else str(stream.codec_context.name)


def _find_single_pictures(container: Any, streams: Sequence[Any]) -> set[int]:
    """Indices of those streams that consist of one picture; reads on where the header does not count them."""
    is_padded = container.format.name == "avi"  # with empty packets, which its header counts
    counts = {stream.index: 0 if is_padded else _count_frames(stream) for stream in streams}
    uncounted = [stream for stream in streams if not counts[stream.index]]
    if uncounted:
        try:
            for packet in container.demux(uncounted):
                counts[packet.stream.index] += packet.size > 0
                if all(counts[stream.index] > 1 for stream in uncounted):
                    break
        except av.FFmpegError as error:  # the file breaks off, which reading it will tell
            if is_memory_error(error):
                raise
    return {index for index, count in counts.items() if count == 1}


def _count_frames(stream: Any) -> int:
    """As the header says; 0 if it does not."""
    tags = (stream.metadata.get(name, "") for name in ("NUMBER_OF_FRAMES", "NUMBER_OF_FRAMES-eng"))
    return int(stream.frames) or next((int(tag) for tag in tags if tag.isdecimal()), 0)


def _other_films_warning(
    path: Path, streams: Sequence[Any], films: Sequence[int], chosen: int
) -> tuple[str, ...]:
    others = [at for at in films if at != chosen]
    if not others:
        return ()
    return (
        f"{path.name} has {len(films)} video streams; stream {_describe(streams, [chosen])} is read and "
        f"{_describe(streams, others)} left out. To choose another: --video-stream N on the command line, "
        "video_stream=N in Python.",
    )


def _describe(streams: Sequence[Any], numbers: Sequence[int]) -> str:
    listed = [f"{at} ({streams[at].width}×{streams[at].height})" for at in numbers[:_MAX_LISTED]]
    return ", ".join(listed) + (", …" if len(numbers) > _MAX_LISTED else "")


def _number_error(path: Path, streams: Sequence[Any], number: int) -> RequestError:
    listed = f"has {_describe(streams, range(len(streams)))}" if streams else "has none"
    return RequestError(
        f"{path.name} has no video stream {number}; it {listed}.",
        hint=f"Give one of these numbers, or leave out {argument('video_stream')} to read what players show.",
    )


def _codec_error(path: Path) -> MediaUnreadableError:
    return MediaUnreadableError(
        f"{path.name} uses a codec that is not supported.", hint="Re-encode it as H.264 MP4."
    )


def _no_film_error(path: Path, container: Any, streams: Sequence[Any]) -> MediaUnreadableError:
    kinds = sorted({str(stream.type) for stream in container.streams if stream not in streams})
    content = "only audio" if container.streams.audio else "no video stream"
    cover = ", besides a cover picture" if streams else ""
    return MediaUnreadableError(
        f"{path.name} contains {content} (streams: {', '.join(kinds) or 'none'}){cover}.",
        hint="Give a file that contains video.",
    )
