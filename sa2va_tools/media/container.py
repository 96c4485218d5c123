"""A video file in PyAV: opening it safely, its packets, its frames. Knows nothing of indices or seconds.

Only self-contained formats are opened, and only from disk: a playlist that names other files or addresses is
refused. FFmpeg's own log stays silent (PyAV's default).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.alpha_decoder import make_decode
from sa2va_tools.media.failures import SUPPORTED_FORMATS, translate_decoder_errors
from sa2va_tools.media.motion_jpeg import find_motion_jpeg
from sa2va_tools.media.orientation import UPRIGHT, Orientation
from sa2va_tools.media.streams import StreamChoice, choose_stream
from sa2va_tools.memory_errors import is_memory_error

_VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,asf,ogg,mxf,nut,"
    "ivf,obu,av1,h264,hevc,m4v,yuv4mpegpipe,wtv,dv,h263,mjpeg,mpjpeg,rm,3gp"
)
_AUDIO_FORMATS = "wav,mp3,flac,aac,aiff,ac3,eac3,caf,amr,w64,au"  # only to say that it is audio
_OPTIONS = {"format_whitelist": f"{_VIDEO_FORMATS},{_AUDIO_FORMATS}", "protocol_whitelist": "file"}


@contextmanager
def open_video(path: Path, number: int | None, *, damaged: bool = False) -> Iterator[tuple[Any, Any]]:
    """(container, video stream `number`; None: the one that players show). Wrap what is done with them in
    `translate_decoder_errors`.

    With `damaged`, one thread decodes: with several, an error hides sound frames that other threads hold.
    """
    if number is None:
        number = find_stream(path).number
    with _open_container(path) as container:
        with translate_decoder_errors(path):
            stream = container.streams.video[number]
            if damaged:
                stream.thread_type = "NONE"
                stream.codec_context.thread_count = 1
            else:
                stream.thread_type = "AUTO"
        yield container, stream


def find_stream(path: Path, number: int | None = None) -> StreamChoice:
    """The video stream to read; `number` is the caller's choice. Raises MediaUnreadableError if there is
    none, RequestError if it is not the one that was chosen."""
    with _open_container(path) as container, translate_decoder_errors(path):
        return choose_stream(path, container, number)


@contextmanager
def _open_container(path: Path) -> Iterator[Any]:
    with translate_decoder_errors(path):
        forced = find_motion_jpeg(path)  # FFmpeg would take it for one picture
        try:
            container = av.open(
                str(path), mode="r", format=forced, options=_OPTIONS, metadata_errors="replace"
            )
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            raise MediaUnreadableError(
                f"{path.name} is truncated, corrupt, or in a format that is not supported.",
                hint=f"Check that it opens in a player. {SUPPORTED_FORMATS}",
            ) from error
    with container:
        yield container


def frame_orientation(frame: Any, default: Orientation = UPRIGHT) -> Orientation:
    """As the frame says, else `default`."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return default if matrix is None else Orientation.from_display_matrix(bytes(matrix))


def iter_packets(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """The packets from here on. The last one is empty and flushes the decoder, also at a break."""
    source = container.demux(stream)
    while True:
        with translate_decoder_errors(path):
            try:
                packet = next(source, None)
            except av.FFmpegError as error:
                # "Try again" is what FFmpeg says at the end of a file that grows.
                if is_memory_error(error) and not isinstance(error, av.error.BlockingIOError):
                    raise
                packet = av.Packet()
                packet.stream = stream
        if packet is None:
            return
        yield packet
        if packet.size == 0:
            return


def decode_stream(
    path: Path, container: Any, stream: Any, on_fault: Callable[[int | None], None] = lambda pts: None
) -> Iterator[Any]:
    """Frames in presentation order from where the container stands, whatever their sizes and however damaged.
    Packets that do not decode are skipped after calling `on_fault` with their timestamp."""
    with translate_decoder_errors(path):
        decode = make_decode(stream)
    for packet in iter_packets(path, container, stream):
        with translate_decoder_errors(path, "decoded", (stream.width, stream.height)):
            try:
                frames = decode(packet)
            except av.FFmpegError as error:
                if is_memory_error(error):  # then it says nothing about the packet
                    raise
                on_fault(packet.pts)
                continue
        yield from frames
