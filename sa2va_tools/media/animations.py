"""Animated GIF, WebP, PNG and AVIF: frames with their own delays, through Pillow.

Delays of 10 ms or less count as 100 ms, as in browsers. Frames are laid over white.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import Disposal

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.diagnosis.cut_off import find_cut
from sa2va_tools.media.failures import translate_decoder_errors
from sa2va_tools.media.limits import check_duration, check_frames
from sa2va_tools.media.orientation import UPRIGHT
from sa2va_tools.media.probe import Probe, cut_warning
from sa2va_tools.media.stills import has_transparency, image_orientation, open_image, open_unchecked, to_rgb
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits

ANIMATED_SUFFIXES = (".gif", ".png", ".webp", ".avif")
"""Kinds of files that may be animated, as `sniff.file_suffix` returns them (with the dot) and as
`Media.container` names them (without)."""
_MAX_CLAMPED_MS = 10
_DEFAULT_MS = 100.0


@dataclass(slots=True)
class _Frames:
    """What decoding all frames found."""

    delays_ms: list[float] = field(default_factory=list)
    starts_ms: list[float] = field(default_factory=list)
    """Where the format has them (AVIF), else 0."""
    transparent: bool = False
    warnings: list[str] = field(default_factory=list)


def is_animated(path: Path, limits: MediaLimits) -> bool:
    """Whether an image of one of the `ANIMATED_SUFFIXES` has several frames."""
    with open_image(path, limits) as image:
        return bool(getattr(image, "is_animated", False))


def probe_animation(path: Path, limits: MediaLimits, run: Run) -> Probe:
    """Decodes all frames once, because their delays are stored between them."""
    with open_image(path, limits) as image:
        container = str(image.format).lower()
        size_wh = image.size
        count = int(getattr(image, "n_frames", 1)) - _count_hidden(image)
        # AVIF stores a rotation; the EXIF orientation of other animations is not applied.
        orientation = image_orientation(image) if container == "avif" else UPRIGHT
    check_frames(path.name, count, limits)
    frames = _decode_all(path, size_wh, count, run)
    if find_cut(path) and not frames.warnings:
        frames.warnings.append(cut_warning(path.name, count))
    delays_ms = frames.delays_ms
    if container == "avif":  # delays are rounded to milliseconds, and their sum would drift
        delays_ms[:-1] = np.diff(frames.starts_ms).tolist()
    delays_ms = [delay if delay > _MAX_CLAMPED_MS else _DEFAULT_MS for delay in delays_ms]
    ends_ms = np.cumsum(delays_ms, dtype=np.float64)
    check_duration(path.name, float(ends_ms[-1]) / 1000, limits)
    return Probe(
        container,
        orientation.apply_size(size_wh),
        frame_count=len(delays_ms),
        fps=Fraction(1000 * len(delays_ms)) / Fraction(float(ends_ms[-1])).limit_denominator(1000),
        timestamps_s=(0.0, *(float(end) / 1000 for end in ends_ms[:-1])),
        last_frame_s=delays_ms[-1] / 1000,
        orientation=orientation,
        warnings=tuple(frames.warnings),
        complete=not frames.warnings,
        transparent=frames.transparent,
    )


def _decode_all(path: Path, size_wh: tuple[int, int], count: int, run: Run) -> _Frames:
    """Up to the first frame that does not decode. MediaUnreadableError if none does, or sizes differ."""
    found = _Frames()
    frames = _iter_images(path)
    for index in range(count):
        run.raise_if_cancelled()
        try:
            image = next(frames)
        except MediaUnreadableError as error:
            if index == 0:
                raise
            found.warnings.append(f"{path.name} breaks off: {index} of {count} frames. {error.message}")
            break
        if image.size != size_wh:
            raise MediaUnreadableError(
                f"{path.name} is corrupt: frame {index} is {image.width}×{image.height}, "
                f"the picture {size_wh[0]}×{size_wh[1]}.",
                hint="Export or download it again.",
            )
        found.transparent = found.transparent or has_transparency(image)
        found.delays_ms.append(float(image.info.get("duration", 0)))
        found.starts_ms.append(float(image.info.get("timestamp", 0)))
    return found


def iter_animation(path: Path) -> Iterator[NDArray[np.uint8]]:
    """All frames in order, each (H, W, 3) RGB as stored. Raises MediaUnreadableError, OutOfMemoryError."""
    for image in _iter_images(path):
        with translate_decoder_errors(path, "decoded", image.size):
            rgb = to_rgb(image)
        yield rgb


def _iter_images(path: Path) -> Iterator[Image.Image]:
    """The same image object, with the next frame loaded each time."""
    # translate_decoder_errors must not stay open across a yield: it would hide the caller's warnings.
    with translate_decoder_errors(path):
        image = open_unchecked(path)
    with image:
        canvas = _Canvas(image) if image.format == "PNG" else None
        for index in itertools.count(_count_hidden(image)):
            with translate_decoder_errors(path, "decoded", image.size):
                if index >= int(getattr(image, "n_frames", 1)):
                    return
                if index == 1 and _count_hidden(image):
                    _clear(image)
                if canvas and index:
                    canvas.prepare(is_first=index == _count_hidden(image))
                image.seek(index)
                image.load()
            yield image


class _Canvas:
    """What is under the frames of an animated PNG.

    Pillow 13 blends a frame into its copy of what was there before, so a frame that is to be removed again
    would stay. This keeps a copy of its own and puts it back.
    """

    def __init__(self, image: Any) -> None:
        self._image = image
        self._before: Image.Image | None = None

    def prepare(self, *, is_first: bool) -> None:
        """Before each frame but the file's first: make the canvas ready for it."""
        image = self._image
        if not is_first and image.dispose_op == Disposal.OP_PREVIOUS and self._before is not None:
            image.paste(self._before.crop(image.dispose_extent), image.dispose_extent)
            return
        self._before = image.copy()
        if not is_first and image.dispose_op == Disposal.OP_BACKGROUND:
            nothing = (0,) * len(image.getbands())
            self._before.paste(nothing[0] if len(nothing) == 1 else nothing, image.dispose_extent)


def _count_hidden(image: Image.Image) -> int:
    """1 for an animated PNG whose first image is only for viewers that cannot animate, else 0."""
    return int(bool(image.info.get("default_image", False)))


def _clear(image: Image.Image) -> None:
    """Empty the canvas of an animated PNG: what its hidden image shows must not be left under the frames."""
    image.load()
    if image.has_transparency_data or image.mode == "P":
        unseen = image.info.get("transparency", 0)
        image.paste(unseen if isinstance(unseen, int | tuple) else 0, (0, 0, *image.size))
    else:
        image.paste("white", (0, 0, *image.size))
