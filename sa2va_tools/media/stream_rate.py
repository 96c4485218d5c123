"""The frame rate that a video's container or codec tells, and what is assumed if neither does."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sa2va_tools.errors import RequestError
from sa2va_tools.media.timestamps import FrameTimes
from sa2va_tools.wording import argument

_BARE_FORMATS = frozenset(
    {"h264", "hevc", "vvc", "obu", "mjpeg", "mpjpeg", "m4v", "mpegvideo", "h263", "vc1"}
)
"""FFmpeg's names of formats without timestamps. It makes them up, at 25 frames per second, unless the codec
tells a rate."""
_PLAUSIBLE_FPS = (Fraction(1, 60), Fraction(1000))


@dataclass(frozen=True, slots=True)
class StreamRate:
    """What a file says about its frame rate."""

    fps: Fraction | None
    is_bare: bool
    """Whether the format has no timestamps."""
    is_told: bool
    """Whether a bare stream has the rate in its own headers."""

    def warn_if_assumed(self, name: str, times: FrameTimes) -> tuple[str, ...]:
        """Says so if the times are a guess."""
        if self.is_told or not (times.is_guess or self.is_bare):
            return ()
        return (
            f"{name} has no usable timestamps; {times.fps} frames per second are assumed. To set the rate: "
            "--fps on the command line, fps= in Python.",
        )


def find_rate(container: Any, stream: Any) -> StreamRate:
    """Of a container whose streams have been read ahead, as opening does."""
    is_bare = str(container.format.name) in _BARE_FORMATS
    told = stream.codec_context.framerate
    lowest, highest = _PLAUSIBLE_FPS
    if is_bare and told and lowest <= told <= highest:
        return StreamRate(Fraction(told), is_bare=True, is_told=True)
    rates = [stream.average_rate, stream.guessed_rate]
    if container.format.name == "avi":  # whose header may count fields, and empty packets between frames
        rates.reverse()
    rate = next((rate for rate in rates if rate), None)
    is_plausible = rate is not None and 0 < rate <= highest
    return StreamRate(Fraction(rate) if rate and is_plausible else None, is_bare, is_told=False)


def require_no_rate(name: str, rate: StreamRate, times: FrameTimes) -> None:
    """RequestError if a caller gives a frame rate for a video that has timestamps of its own."""
    if not (rate.is_bare or times.is_guess):
        raise RequestError(
            f"{name} has timestamps of its own ({float(times.fps):g} frames per second); a frame rate can be "
            "given only for a folder of frames or a video that has none.",
            hint=f"Leave out {argument('fps')}.",
        )
