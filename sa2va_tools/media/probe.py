"""What probing a file or folder finds, before it has a name and a hash."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from sa2va_tools.media.orientation import UPRIGHT, Orientation


@dataclass(frozen=True, slots=True)
class Probe:
    """Sizes are after orientation, seconds count from the first frame."""

    container: str
    size_wh: tuple[int, int]
    frame_count: int = 1
    fps: Fraction | None = None
    timestamps_s: tuple[float, ...] = (0.0,)
    last_frame_s: float = 0.0
    """How long the last frame is shown."""
    orientation: Orientation = UPRIGHT
    pts: tuple[int, ...] = ()
    """Increasing timestamps of the frames in the stream's ticks; empty when there are none to seek by."""
    files: tuple[Path, ...] = ()
    """The frames of a folder, in order."""
    warnings: tuple[str, ...] = ()
    complete: bool = True
    """False when frames are lost or damaged."""
    transparent: bool = False
    """Whether a pixel that is not opaque was found; it is laid over white."""
    video_stream: int | None = None
    """N of FFmpeg's `v:N` for a file with video streams."""
    given_fps: Fraction | None = None
    """The rate that the caller gave for frames that have none."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel by its height."""
    start_s: float = 0.0
    """When a player shows the first frame, by the player's clock."""


def transparency_warning(name: str) -> str:
    return f"{name} has transparent pixels; they are shown on white."


def break_warning(name: str, count: int, event: str = "breaks off") -> str:
    """Says that only the first `count` frames of a file or folder are used."""
    used = "the frame before it is" if count == 1 else f"the {count} frames before it are"
    return f"{name} {event} at frame {count}; {used} used."
