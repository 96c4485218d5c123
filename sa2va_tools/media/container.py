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
from sa2va_tools.media.failures import SUPPORTED_FORMATS, translate_decoder_errors
from sa2va_tools.media.orientation import UPRIGHT, Orientation
from sa2va_tools.memory_errors import is_memory_error

_VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,asf,ogg,mxf,nut,"
    "ivf,obu,av1,h264,hevc,m4v,yuv4mpegpipe,wtv,dv,h263,mjpeg,rm,3gp"
)
_AUDIO_FORMATS = "wav,mp3,flac,aac,aiff,ac3,eac3,caf,amr,w64,au"  # only to say that it is audio
_OPTIONS = {"format_whitelist": f"{_VIDEO_FORMATS},{_AUDIO_FORMATS}", "protocol_whitelist": "file"}
_HDR_CURVES = {16: "PQ", 18: "HLG"}
"""Transfer characteristics by ITU-T H.273: SMPTE ST 2084 and ARIB STD-B67."""


@contextmanager
def open_video(path: Path, *, damaged: bool = False) -> Iterator[tuple[Any, Any]]:
    """(container, video stream). Wrap what is done with them in `translate_decoder_errors`.

    With `damaged`, one thread decodes: with several, an error hides sound frames that other threads hold.
    """
    with translate_decoder_errors(path):
        try:
            container = av.open(str(path), mode="r", options=_OPTIONS, metadata_errors="replace")
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            raise MediaUnreadableError(
                f"{path.name} is truncated, corrupt, or in a format that is not supported.",
                hint=f"Check that it opens in a player. {SUPPORTED_FORMATS}",
            ) from error
    with container:
        stream = _video_stream(path, container)
        if damaged:
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
        else:
            stream.thread_type = "AUTO"
        yield container, stream


def _video_stream(path: Path, container: Any) -> Any:
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        kinds = sorted({str(stream.type) for stream in container.streams})
        content = "only audio" if container.streams.audio else "no video stream"
        raise MediaUnreadableError(
            f"{path.name} contains {content} (streams: {', '.join(kinds) or 'none'}).",
            hint="Give a file that contains video.",
        )
    stream = streams[0]
    if stream.codec_context is None:
        raise MediaUnreadableError(
            f"{path.name} uses a codec that is not supported.", hint="Re-encode it as H.264 MP4."
        )
    return stream


def _is_cover(stream: Any) -> bool:
    """To FFmpeg, a song's album cover is a video stream of one frame."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def stream_warnings(name: str, stream: Any) -> list[str]:
    """What is lost or assumed when its frames become 8-bit RGB with square pixels."""
    found = []
    aspect = stream.sample_aspect_ratio
    curve = _HDR_CURVES.get(int(stream.codec_context.color_trc or 0))
    if aspect not in (None, 0, 1):
        found.append(f"{name} has pixels that are not square ({aspect}); they are read as square.")
    if curve:
        found.append(
            f"{name} is HDR video ({curve}); its colours are not tone-mapped and may look washed out."
        )
    if has_alpha(stream):
        found.append(f"{name} has an alpha channel; its frames are shown on white.")
    elif stream.metadata.get("alpha_mode") == "1":
        found.append(f"{name} has an alpha channel, which is not read.")
    return found


def has_alpha(frame: Any) -> bool:
    """Of a frame, or of a stream's frames."""
    return frame.format is not None and any(component.is_alpha for component in frame.format.components)


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
    for packet in iter_packets(path, container, stream):
        with translate_decoder_errors(path, "decoded", (stream.width, stream.height)):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if is_memory_error(error):  # then it says nothing about the packet
                    raise
                on_fault(packet.pts)
                continue
        yield from frames
