"""Animated GIF, WebP and PNG: frames with their own delays, through Pillow.

Delays of 10 ms or less count as 100 ms, as browsers show them. Frames are laid over white.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.failures import decoder_errors
from sa2va_tools.media.limits import check_duration, check_frames
from sa2va_tools.media.probe import Probe
from sa2va_tools.media.stills import opened_image, to_rgb
from sa2va_tools.settings import MediaLimits

_CLAMPED_MS, _DEFAULT_MS = 10, 100


def is_animated(path: Path, limits: MediaLimits) -> bool:
    """Whether it is an image of several frames (a TIFF's pages are not frames)."""
    with decoder_errors(path), path.open("rb") as file:
        if not file.read(4).startswith((b"GIF8", b"\x89PNG", b"RIFF")):
            return False
    with opened_image(path, limits) as image:
        return bool(getattr(image, "is_animated", False))


def probe_animation(path: Path, limits: MediaLimits, on_frame: Callable[[], None]) -> Probe:
    """Decodes all frames once: their delays stand between them. `on_frame` may raise to stop."""
    with opened_image(path, limits) as image:
        container, size_wh, expected = (
            str(image.format).lower(),
            image.size,
            int(getattr(image, "n_frames", 1)),
        )
    check_frames(path.name, expected, limits)
    delays_ms: list[float] = []
    warnings: list[str] = []
    frames = _delays_and_sizes(path)
    for _ in range(expected):
        on_frame()
        try:
            delay_ms, frame_size_wh = next(frames)
        except MediaUnreadableError as error:
            if not delays_ms:
                raise
            warnings.append(f"{path.name} breaks off: {len(delays_ms)} of {expected} frames. {error.message}")
            break
        if frame_size_wh != size_wh:
            raise MediaUnreadableError(
                f"{path.name} is corrupt: frame {len(delays_ms)} is {frame_size_wh[0]}×{frame_size_wh[1]}, "
                f"the picture {size_wh[0]}×{size_wh[1]}.",
                hint="Export or download it again.",
            )
        delays_ms.append(delay_ms)
    ends_ms = np.cumsum(delays_ms, dtype=np.float64)
    check_duration(path.name, float(ends_ms[-1]) / 1000, limits)
    return Probe(
        container,
        size_wh,
        frame_count=len(delays_ms),
        fps=Fraction(1000 * len(delays_ms)) / Fraction(float(ends_ms[-1])).limit_denominator(1000),
        timestamps_s=(0.0, *(float(end) / 1000 for end in ends_ms[:-1])),
        last_frame_s=delays_ms[-1] / 1000,
        warnings=tuple(warnings),
        complete=not warnings,
    )


def iter_animation(path: Path) -> Iterator[NDArray[np.uint8]]:
    """All frames from the first, each (H, W, 3) RGB. Raises MediaUnreadableError."""
    for image in _loaded_frames(path):
        with decoder_errors(path, "decoded", image.size):
            rgb = to_rgb(image)
        yield rgb


def _delays_and_sizes(path: Path) -> Iterator[tuple[float, tuple[int, int]]]:
    for image in _loaded_frames(path):
        delay_ms = float(image.info.get("duration", 0))
        yield (delay_ms if delay_ms > _CLAMPED_MS else float(_DEFAULT_MS)), image.size


def _loaded_frames(path: Path) -> Iterator[Image.Image]:
    """The same image object, moved on by one frame each time."""
    # decoder_errors may not stay open across a yield: it would silence the caller's warnings.
    with decoder_errors(path):
        image = Image.open(path, formats=("GIF", "PNG", "WEBP"))
    with image:
        for index in itertools.count():
            with decoder_errors(path, "decoded", image.size):
                if index >= int(getattr(image, "n_frames", 1)):
                    return
                image.seek(index)
                image.load()
            yield image
