"""`--video-stream` and `--fps`: the media is opened as they say, and its handle takes its place."""

from __future__ import annotations

from sa2va_server.cli.flags import ReadingFlags
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import RequestError
from sa2va_tools.run import Run
from sa2va_tools.store.handles import parse_kind


def open_as_given(engine: Engine, media: str | None, reading: ReadingFlags, run: Run) -> str | None:
    """What to give to tools instead of `media`; None stands for the media of a mask. RequestError if the
    options do not apply to it."""
    if reading == ReadingFlags():
        return media
    if media is None or parse_kind(media) in ("mask", "answer"):
        raise RequestError(
            "Masks and answers belong to one way of reading their image or video, which cannot be changed.",
            hint="Leave out --video-stream and --fps.",
        )
    run.report("open", message="reading the media")
    return engine.find_media(media, fps=reading.fps, video_stream=reading.video_stream, run=run).handle
