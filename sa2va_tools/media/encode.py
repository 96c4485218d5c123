"""Pixels → files: H.264 MP4 that is playable in every browser, and images as bytes."""

from __future__ import annotations

import contextlib
import io
import math
import os
import secrets
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.errors import OutOfMemoryError, RequestError, StoreError
from sa2va_tools.memory_errors import is_memory_error, quote_error

_TICKS_PER_S = 90_000
_BT709 = 1


class VideoWriter:
    """Writes frames to an H.264 (yuv420p, fast start) MP4, completely or not at all.

    Use it as a context manager. The file appears at `path` when the block ends without an error; until then
    it has a hidden name in the same folder, and it is removed when the block raises. H.264 needs even sides:
    an odd width or height is padded by repeating the last column or row.
    """

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        fps: Fraction,
        *,
        crf: int = 20,
        preset: str = "veryfast",
        threads: int = 0,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        """`size_wh` is the size of all frames, `fps` the rate of those without a timestamp. `crf` is 0
        (lossless) … 51; with `threads` 0 the encoder decides. `pixel_aspect` is the width of a pixel by its
        height, which players respect. Raises RequestError."""
        if fps <= 0 or min(size_wh) < 1:
            raise RequestError(f"Cannot write a video of size {size_wh} at {fps} frames per second.")
        self.path = Path(path)
        self.size_wh = size_wh
        self.fps = Fraction(fps)
        # Without B-frames the file's duration is right for any timestamps.
        self._options = {"crf": str(crf), "preset": preset, "bf": "0"}
        self._threads = threads
        self._pixel_aspect = pixel_aspect
        self._part = self.path.with_name(f".{self.path.stem[:80]}.{secrets.token_hex(4)}.part")
        self._container: Any = None
        self._stream: Any = None
        self._last_pts = -1
        self._last_duration_s: float | None = None
        self._step = max(1, round(_TICKS_PER_S / self.fps))

    def __enter__(self) -> Self:
        try:
            self._container = av.open(
                str(self._part), "w", format="mp4", container_options={"movflags": "+faststart"}
            )
            self._stream = self._new_stream()
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            raise self._error(error) from error
        return self

    def write(
        self, frame_rgb: NDArray[np.uint8], timestamp_s: float | None = None, duration_s: float | None = None
    ) -> None:
        """Append one (H, W, 3) uint8 RGB frame, shown at `timestamp_s` (None: 1/fps after the previous one);
        the last one is shown for `duration_s` (None: 1/fps). Raises RequestError for a wrong shape or a time
        that is not after the previous one, StoreError, OutOfMemoryError."""
        if self._container is None:
            raise RequestError("VideoWriter is used outside its `with` block.")
        width, height = self.size_wh
        if frame_rgb.shape != (height, width, 3) or frame_rgb.dtype != np.uint8:
            raise RequestError(
                f"A frame has shape {frame_rgb.shape} and dtype {frame_rgb.dtype}; expected "
                f"{(height, width, 3)} and uint8."
            )
        pts = self._next_pts(timestamp_s)
        padded = np.pad(frame_rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts = pts
        frame.time_base = Fraction(1, _TICKS_PER_S)
        frame.duration = self._step
        self._last_duration_s = duration_s
        self._last_pts = pts
        self._mux(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            if self._last_pts < 0:
                raise RequestError(f"No frame was written to {self.path.name}.")
            self._mux(None)
            self._container.close()
            self._container = None
            os.replace(self._part, self.path)  # noqa: PTH105 - Path.replace is the same call
        except (av.FFmpegError, OSError) as failure:
            raise self._error(failure) from failure
        finally:
            self._discard()

    def _new_stream(self) -> Any:
        stream = self._container.add_stream("libx264", rate=self.fps.limit_denominator(1001))
        stream.width, stream.height = (side + side % 2 for side in self.size_wh)
        stream.pix_fmt = "yuv420p"
        stream.options = self._options
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS_PER_S)
        context.thread_count = self._threads
        if self._pixel_aspect != 1:
            context.sample_aspect_ratio = self._pixel_aspect
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        return stream

    def _next_pts(self, timestamp_s: float | None) -> int:
        if timestamp_s is None:
            return self._last_pts + self._step if self._last_pts >= 0 else 0
        if not math.isfinite(timestamp_s) or timestamp_s < 0:
            raise RequestError(f"A frame's time is {timestamp_s}; it must be 0 s or more.")
        pts = round(timestamp_s * _TICKS_PER_S)
        if pts <= self._last_pts:
            raise RequestError(
                f"A frame's time, {timestamp_s:.6f} s, is not after the previous one "
                f"({self._last_pts / _TICKS_PER_S:.6f} s)."
            )
        return pts

    def _mux(self, frame: Any) -> None:
        try:
            packets = self._stream.encode(frame)
            if frame is None and packets and self._last_duration_s is not None:  # encoders drop durations
                packets[-1].duration = max(1, round(self._last_duration_s / packets[-1].time_base))
            self._container.mux(packets)
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> StoreError | OutOfMemoryError:
        if is_memory_error(error):  # FFmpeg calls it an error of an external library
            width, height = self.size_wh
            return OutOfMemoryError(
                f"{self.path.name} cannot be written: not enough memory{quote_error(error)}. Its frames have "
                f"{width}×{height} pixels.",
                hint="Close other programs, or raise the memory limit (ulimit -v, a container's limit).",
            )
        return StoreError(
            f"{self.path} cannot be written{quote_error(error)}.",
            hint="Check the folder, its permissions and the free space.",
        )

    def _discard(self) -> None:
        """Close what is open and remove the unfinished file."""
        container, self._container = self._container, None
        # Errors here concern a file that is thrown away; the first error is the one to report.
        with contextlib.suppress(av.FFmpegError, OSError):
            if container is not None:
                container.close()
        self._part.unlink(missing_ok=True)


def encode_image(
    rgb: NDArray[np.uint8], fmt: Literal["png", "jpeg", "webp"] = "png", quality: int = 85
) -> bytes:
    """(H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey, uint8, as the bytes of an image file.

    `quality` 1 … 100 is for JPEG and WebP. Raises RequestError for another shape or dtype, for alpha in JPEG,
    and for an unknown format.
    """
    if fmt not in ("png", "jpeg", "webp"):
        raise RequestError(f"Image format {fmt!r} is not supported.", hint="Use png, jpeg or webp.")
    channels = 1 if rgb.ndim == 2 else rgb.shape[2] if rgb.ndim == 3 else 0
    allowed = (1, 3) if fmt == "jpeg" else (1, 3, 4)
    if rgb.dtype != np.uint8 or channels not in allowed or 0 in rgb.shape or not 1 <= quality <= 100:
        raise RequestError(
            f"Cannot write {fmt} of shape {rgb.shape}, dtype {rgb.dtype}, quality {quality}; expected "
            f"uint8 with {' or '.join(map(str, allowed))} channels and a quality of 1 … 100."
        )
    buffer = io.BytesIO()
    options = {"compress_level": 6} if fmt == "png" else {"quality": quality, "optimize": True}
    Image.fromarray(rgb).save(buffer, fmt.upper(), **options)
    return buffer.getvalue()
