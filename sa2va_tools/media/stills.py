"""Still images → 8-bit RGB, through Pillow (OpenCV for the TIFFs that it cannot read).

Alpha is laid over white. 16-bit values are scaled by 1/257; 32-bit integers and floats as
`_wide_to_8bit` says. Colour profiles are not applied (neither does the reference). Of a TIFF
with several pages the first is read. Knows nothing of video.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.failures import READABLE_KINDS, check_memory, decoder_errors
from sa2va_tools.media.limits import check_pixels
from sa2va_tools.media.orientation import UPRIGHT, Orientation
from sa2va_tools.media.probe import Probe
from sa2va_tools.settings import MediaLimits

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_WHITE = (255, 255, 255, 255)


@contextmanager
def opened_image(path: Path, limits: MediaLimits | None = None) -> Iterator[Image.Image]:
    """The image's header, size checked before any pixel is decoded. Raises MediaError, also for
    what is raised by decoding inside the `with`."""
    with decoder_errors(path), Image.open(path, formats=_FORMATS) as image:
        if limits is not None:
            check_pixels(path.name, image.size, limits)
        with decoder_errors(path, size_wh=image.size):
            yield image


def probe_still(path: Path, limits: MediaLimits, *, decode: bool = True) -> Probe:
    """Header of a still image and, with `decode`, proof that all its pixels are there."""
    try:
        with opened_image(path, limits) as image:
            orientation = _orientation_of(image, decode)
            container = "jpeg" if image.format == "MPO" else str(image.format).lower()
            pages = getattr(image, "n_frames", 1) if container == "tiff" else 1
            size_wh = orientation.apply_size(image.size)
            if decode:
                image.load()
    except MediaUnreadableError as error:
        if not _is_unidentified_tiff(path, error):
            raise
        size_wh, container, pages, orientation = _tiff_size_wh(path), "tiff", 1, UPRIGHT
        check_pixels(path.name, size_wh, limits)
        if decode:
            _read_with_opencv(path)
    warnings = (f"{path.name} has {pages} pages; the first is read.",) if pages > 1 else ()
    return Probe(container, size_wh, orientation=orientation, warnings=warnings)


def read_still(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, upright. Raises MediaError."""
    try:
        with opened_image(path) as image:
            return to_rgb(ImageOps.exif_transpose(image))
    except MediaUnreadableError as error:
        if not _is_unidentified_tiff(path, error):
            raise
        return _read_with_opencv(path)


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Any mode of Pillow → (H, W, 3) RGB, alpha over white."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = _wide_to_8bit(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        over = Image.new("RGBA", image.size, _WHITE)
        over.alpha_composite(image.convert("RGBA"))
        image = over
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _wide_to_8bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """16-bit by 1/257. Wider integers: 0 … 255 kept, 0 … 65535 by 1/257. Floats: 0 … 1 by 255,
    0 … 255 kept. Whatever is beyond these is stretched from its least to its greatest value;
    NaN is black."""
    if values.dtype == np.uint16:
        return np.asarray((values.astype(np.uint32) + 128) // 257, np.uint8)
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    steps = (1.0, 255.0) if np.issubdtype(values.dtype, np.floating) else (255.0, 65535.0)
    top = next((step for step in steps if low >= 0 and high <= step), None)
    if top is None:
        wide, top = wide - low, (high - low) or 1.0
    return np.asarray(np.rint(wide * (255.0 / top)), np.uint8)


def _orientation_of(image: Image.Image, decode: bool) -> Orientation:
    # Pillow turns a TIFF itself while loading, and gives its turned size at once.
    if image.format == "TIFF":
        return UPRIGHT
    # Pillow decodes a whole PNG to look for EXIF behind its pixels, where hardly anyone puts it.
    if image.format == "PNG" and "exif" not in image.info and not decode:
        return UPRIGHT
    return Orientation.from_exif(int(image.getexif().get(_EXIF_ORIENTATION, 1)))


def _is_unidentified_tiff(path: Path, error: MediaUnreadableError) -> bool:
    """A TIFF whose layout of samples Pillow does not know, such as three floats per pixel."""
    if not isinstance(error.__cause__, UnidentifiedImageError):
        return False
    with decoder_errors(path), path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*")


def _tiff_size_wh(path: Path) -> tuple[int, int]:
    with decoder_errors(path), path.open("rb") as file:
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
        return int(directory[_TIFF_WIDTH]), int(directory[_TIFF_HEIGHT])


@contextmanager
def _silent_opencv() -> Iterator[None]:
    """OpenCV writes what it thinks of a broken file on stderr."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _read_with_opencv(path: Path) -> NDArray[np.uint8]:
    with decoder_errors(path, "decoded"), _silent_opencv():
        bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if bgr is None:
        check_memory(path)
        raise MediaUnreadableError(f"{path.name} cannot be decoded as TIFF.", hint=READABLE_KINDS)
    with decoder_errors(path, "decoded", bgr.shape[1::-1]):
        return _opencv_to_rgb(bgr)


def _opencv_to_rgb(bgr: NDArray[Any]) -> NDArray[np.uint8]:
    """Any depth, grey, BGR or BGRA → (H, W, 3) RGB, alpha over white."""
    if bgr.ndim == 2:
        bgr = bgr[:, :, None].repeat(3, axis=2)
    if bgr.dtype != np.uint8:
        bgr = _wide_to_8bit(bgr)
    if bgr.shape[2] == 4:
        alpha = bgr[:, :, 3:].astype(np.float32) / 255
        bgr = np.rint(bgr[:, :, :3] * alpha + 255 * (1 - alpha))
    return np.ascontiguousarray(bgr[:, :, ::-1], dtype=np.uint8)
