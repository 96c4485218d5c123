"""What probing a file or folder finds, before it has a name and a hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from sa2va_tools.media.orientation import UPRIGHT, Orientation

_MAX_LISTED = 10


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
    damaged_frames: tuple[int, ...] = ()
    """Indices of frames that decode with errors."""
    same_size_frames: int = 0
    """The first frames of a video that are known to have one size."""
    without_end: bool = False
    """Whether a still image lacks its last bytes, but no pixel."""
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


def break_warning(name: str, count: int) -> str:
    """Says that only the first `count` frames of a file or folder are used."""
    used = "the frame before it is" if count == 1 else f"the {count} frames before it are"
    return f"{name} breaks off at frame {count}; {used} used."


def cut_warning(name: str, count: int) -> str:
    """Says that a file is cut off and that its `count` frames are used."""
    used = "its only readable frame is" if count == 1 else f"its {count} readable frames are"
    return f"{name} is cut off: it ends early, and {used} used."


def list_numbers(noun: str, numbers: Sequence[int]) -> str:
    """Such as "frame 3" or "frames 3, 5, 7 and 2 more"; at most ten are listed."""
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    more = len(numbers) - _MAX_LISTED
    if more > 1:
        return f"{noun}s {', '.join(map(str, numbers[:_MAX_LISTED]))} and {more} more"
    return f"{noun}s {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
