"""A video file opened through PyAV, safely. Knows nothing of indices or seconds.

Only self-contained formats are opened, and only from disk: a playlist that names other files or
addresses is refused. FFmpeg's own log stays silent (PyAV's default).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.failures import READABLE_KINDS, check_memory, decoder_errors
from sa2va_tools.media.orientation import Orientation

_VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,asf,ogg,mxf,nut,"
    "ivf,obu,av1,h264,hevc,m4v,yuv4mpegpipe,wtv,dv,h263,mjpeg,rm,3gp"
)
_AUDIO_FORMATS = "wav,mp3,flac,aac,aiff,ac3,eac3,caf,amr,w64,au"  # only to say that it is audio
_OPTIONS = {"format_whitelist": f"{_VIDEO_FORMATS},{_AUDIO_FORMATS}", "protocol_whitelist": "file"}


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """(container, video stream). Wrap what is done with them in `decoder_errors`."""
    with decoder_errors(path):
        try:
            container = av.open(str(path), mode="r", options=_OPTIONS, metadata_errors="replace")
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            check_memory(path)
            raise MediaUnreadableError(
                f"{path.name} is truncated or corrupt, or of a kind that is not read.",
                hint=f"Check that it opens in a player. {READABLE_KINDS}",
            ) from error
    with container:
        yield container, _video_stream(path, container)


def _video_stream(path: Path, container: Any) -> Any:
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        kinds = sorted({str(stream.type) for stream in container.streams})
        what = "only audio" if kinds == ["audio"] or container.streams.audio else "no video stream"
        raise MediaUnreadableError(
            f"{path.name} holds {what} (streams: {', '.join(kinds) or 'none'}).",
            hint="Give a file with pictures.",
        )
    stream = streams[0]
    if stream.codec_context is None:
        raise MediaUnreadableError(f"{path.name} is encoded in a way that is not supported here.")
    stream.thread_type = "AUTO"
    return stream


def _is_cover(stream: Any) -> bool:
    """The picture of a song's album is a video stream of one frame to FFmpeg."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def frame_orientation(frame: Any) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return Orientation() if matrix is None else Orientation.from_display_matrix(bytes(matrix))
