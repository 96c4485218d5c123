"""Pixels in memory → Media: arrays, PIL images, and lists or iterators of frames.

Frames are copied, so that later changes by the caller affect neither the media nor its hash. An iterator is
consumed once, and no further than the limits allow. Knows nothing of files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.errors import RequestError, WrongTypeError
from sa2va_tools.media.failures import translate_decoder_errors
from sa2va_tools.media.frame_rate import parse_frame_rate
from sa2va_tools.media.limits import check_bytes, check_duration, check_frames, check_pixels
from sa2va_tools.media.media import Media, pixels_name
from sa2va_tools.media.probe import transparency_warning
from sa2va_tools.media.sniff import Pixels, source_kind
from sa2va_tools.media.stills import has_transparency, to_upright_rgb
from sa2va_tools.memory_errors import translate_memory_errors
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits

DEFAULT_FPS = Fraction(24)
"""The rate of a video in memory without `fps`; the same as for a folder of frames."""


def open_pixels(
    source: Pixels,
    *,
    fps: float | Fraction | None = None,
    limits: MediaLimits | None = None,
    run: Run | None = None,
) -> Media:
    """An image or a video that is held in memory.

    An (H, W, 3) uint8 RGB array or a PIL image is an image. A (T, H, W, 3) array, or a list or iterator of
    frames (such arrays or PIL images), is a video, even with a single frame. Arrays may have 4 channels
    (RGBA, laid over white), and single frames may be grey, (H, W). The EXIF orientation of PIL images is
    applied; only their current frame is used. Frame i of a video is shown at i / `fps` seconds (None: 24
    frames per second, with a warning).

    Raises TypeError for a source, frame or fps of another type; RequestError for a wrong shape or dtype,
    frames of different sizes, no frames, or a wrong fps; MediaTooLargeError before the memory is spent;
    MediaUnreadableError for a PIL image that does not decode; OutOfMemoryError; CancelledError.
    """
    run = run or Run()
    run.raise_if_cancelled()
    if source_kind(source) != "pixels":
        raise WrongTypeError(f"Expected an array, a PIL image or frames, not {type(source).__name__}.")
    if isinstance(source, np.ndarray):
        _check_array(source, "The array", whole=True)
    is_image = isinstance(source, Image.Image) or (isinstance(source, np.ndarray) and source.ndim < 4)
    rate = _frame_rate(fps, is_image)
    frames: Any = [source] if is_image else source
    reader = _Reader("image" if is_image else "video", rate, limits or MediaLimits(), run)
    reader.read(frames)
    is_assumed = fps is None and not is_image
    return reader.build_media(
        [f"No fps was given; {rate} frames per second are assumed."] if is_assumed else []
    )


@dataclass(slots=True)
class _Reader:
    """Copies the frames of one source, each checked before it is copied."""

    kind: Literal["image", "video"]
    fps: Fraction | None
    limits: MediaLimits
    run: Run
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    """Upright, (H, W, 3), C-contiguous and read-only."""
    transparent: bool = False

    def read(self, source: Iterable[object]) -> None:
        count = len(source) if isinstance(source, Sized) else 0
        for index, frame in enumerate(source):
            self.run.raise_if_cancelled()
            size_wh = _check_frame(frame, f"Frame {index}" if self.kind == "video" else "The image")
            self._check_limits(size_wh, max(count, index + 1))
            rgb = self._copy(frame)
            if self.frames and rgb.shape != self.frames[0].shape:
                (w0, h0), (w, h) = _size_wh(self.frames[0]), _size_wh(rgb)
                raise RequestError(
                    f"Frame 0 is {w0}×{h0}, frame {index} is {w}×{h}.", hint="Resize them to the same size."
                )
            rgb.flags.writeable = False
            self.frames.append(rgb)
        if not self.frames:
            raise RequestError("The list or iterator has no frames.", hint="Give at least one frame.")

    def build_media(self, warnings: Sequence[str]) -> Media:
        size_wh = _size_wh(self.frames[0])
        times = tuple(float(index / self.fps) for index in range(len(self.frames))) if self.fps else (0.0,)
        transparency = [transparency_warning(pixels_name(self.kind, size_wh))] if self.transparent else []
        return Media(
            path=None,
            kind=self.kind,
            size_wh=size_wh,
            frame_count=len(self.frames),
            fps=self.fps,
            timestamps_s=times,
            content_hash=self._hash(),
            container="memory",
            rotation_deg=0,
            warnings=(*warnings, *transparency),
            last_frame_s=float(1 / self.fps) if self.fps else 0.0,
            pixels=tuple(self.frames),
        )

    def _check_limits(self, size_wh: tuple[int, int], count: int) -> None:
        name = pixels_name(self.kind, size_wh)
        check_pixels(name, size_wh, self.limits)
        check_frames(name, count, self.limits)
        check_bytes(name, 3 * size_wh[0] * size_wh[1] * count, self.limits)
        if self.fps is not None:
            check_duration(name, float(count / self.fps), self.limits)

    def _copy(self, frame: Any) -> NDArray[np.uint8]:
        with translate_memory_errors():
            if isinstance(frame, np.ndarray) and frame.shape[2:] == (4,):
                frame = Image.fromarray(np.ascontiguousarray(frame))
            if isinstance(frame, Image.Image):
                with translate_decoder_errors(
                    Path(pixels_name(self.kind, frame.size)), "decoded", frame.size
                ):
                    rgb = to_upright_rgb(frame)
                    self.transparent = self.transparent or has_transparency(frame)
                return rgb
            if frame.ndim == 2:
                return np.repeat(frame[:, :, None], 3, axis=2)
            return np.array(frame, order="C")

    def _hash(self) -> str:
        """SHA-256 of kind, count, shape, fps and pixels."""
        head = f"{self.kind} {len(self.frames)} {self.frames[0].shape} {self.fps}\n"
        digest = hashlib.sha256(head.encode())
        for frame in self.frames:
            self.run.raise_if_cancelled()
            digest.update(frame.data)
        return digest.hexdigest()


def _check_frame(frame: object, what: str) -> tuple[int, int]:
    """Its width and height (as stored, for a PIL image). Raises TypeError, RequestError."""
    if isinstance(frame, Image.Image):
        if 0 in frame.size:
            raise RequestError(f"{what} is empty: {frame.width}×{frame.height} pixels.")
        return frame.size
    if not isinstance(frame, np.ndarray):
        raise WrongTypeError(
            f"{what} has type {type(frame).__name__}; expected a NumPy array of shape (H, W, 3) and dtype "
            "uint8, or a PIL image. For image files, give the path of their folder."
        )
    _check_array(frame, what, whole=False)
    return _size_wh(frame)


def _check_array(array: NDArray[Any], what: str, *, whole: bool) -> None:
    """Raises RequestError when it is not a frame (with `whole`: nor a video)."""
    given = f"{what} has shape {array.shape} and dtype {array.dtype}"
    expected = "expected dtype uint8 and shape (H, W, 3), (H, W, 4) or (H, W)"
    expected += ", or (T, H, W, 3) or (T, H, W, 4) for a video" if whole else ""
    if 0 in array.shape:
        raise RequestError(f"{given}: it is empty; {expected}.")
    fits = array.ndim == 2 or (array.ndim in ((3, 4) if whole else (3,)) and array.shape[-1] in (3, 4))
    if not fits or array.dtype != np.uint8:
        raise RequestError(f"{given}; {expected}.", hint=_dtype_hint(array) if fits else _shape_hint(array))


def _shape_hint(array: NDArray[Any]) -> str:
    if array.dtype == np.object_:
        return "Give a list of frames, all of one size."
    if array.ndim in (3, 4) and array.shape[-3] in (3, 4):
        return "Move the channels to the end: numpy.moveaxis(array, -3, -1)."
    if array.ndim == 3:
        return "For a video of grey frames, give list(array)."
    return ""


def _dtype_hint(array: NDArray[Any]) -> str:
    if array.dtype == np.bool_:
        return "Convert it: array.astype(numpy.uint8) * 255."
    if not np.issubdtype(array.dtype, np.floating):
        return "Scale it to 0 … 255, then convert it with array.astype(numpy.uint8)."
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return (
            "It contains NaN or infinite values: replace these, scale it to 0 … 255 and convert it to uint8."
        )
    factor = " * 255" if low >= 0 and high <= 1 else ""
    return (
        f"Its values are {low:g} … {high:g}. Scale them to 0 … 255 and convert them: "
        f"(array{factor}).round().astype(numpy.uint8)."
    )


def _size_wh(array: NDArray[Any]) -> tuple[int, int]:
    return int(array.shape[1]), int(array.shape[0])


def _frame_rate(fps: object, is_image: bool) -> Fraction | None:
    """None for an image. Raises TypeError, RequestError."""
    if fps is None:
        return None if is_image else DEFAULT_FPS
    if is_image:
        raise RequestError(
            "An image has no frame rate.",
            hint="Leave out fps, or give a (T, H, W, 3) array or a list of frames for a video.",
        )
    return parse_frame_rate(fps)
