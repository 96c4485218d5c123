"""Still images → 8-bit RGB, by Pillow (OpenCV for TIFFs that Pillow cannot read, heif.py for HEIC, AVIF).

Alpha is laid over white. 16-bit values are scaled by 1/257, 32-bit integers and floats as in `_to_8bit`.
Colours become sRGB (see `still_colour`). Of a TIFF with several pages the first is read. Knows nothing of
video.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.diagnosis.cut_off import find_cut
from sa2va_tools.media.diagnosis.tiff import read_directory
from sa2va_tools.media.failures import SUPPORTED_FORMATS, translate_decoder_errors
from sa2va_tools.media.heif import HEIF_SUFFIXES, is_sequence, open_heif
from sa2va_tools.media.limits import check_pixels
from sa2va_tools.media.orientation import UPRIGHT, Orientation
from sa2va_tools.media.probe import Probe
from sa2va_tools.media.sniff import file_suffix, read_suffix
from sa2va_tools.media.still_colour import note_code_points, to_srgb
from sa2va_tools.media.tails import read_without_end
from sa2va_tools.settings import MediaLimits

IMAGE_SUFFIXES = (".jpg", ".png", ".gif", ".bmp", ".tif", ".webp", ".heic", ".avif")
"""Kinds of files that are images, as `sniff.file_suffix` returns them."""
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_WHITE = (255, 255, 255, 255)


def open_unchecked(path: Path) -> Image.Image:
    """The image's header. Wrap it in `translate_decoder_errors`."""
    suffix = read_suffix(path)
    image = open_heif(path, suffix) if suffix in HEIF_SUFFIXES else Image.open(path, formats=_FORMATS)
    note_code_points(image, path, suffix)
    return image


@contextmanager
def open_image(path: Path, limits: MediaLimits | None = None) -> Iterator[Image.Image]:
    """The image's header, its size checked before any pixel is decoded. Raises MediaError and
    OutOfMemoryError, also for what decoding raises inside the `with`."""
    with translate_decoder_errors(path), open_unchecked(path) as image:
        if limits is not None:
            check_pixels(path.name, image.size, limits)
        with translate_decoder_errors(path, size_wh=image.size):
            yield image


def probe_still(path: Path, limits: MediaLimits, *, decode: bool = True) -> Probe:
    """Read the header of a still image and, with `decode`, check that all its pixels are there."""
    try:
        with open_image(path, limits) as image:
            orientation = image_orientation(image, search_png=decode)
            container = "jpeg" if image.format == "MPO" else str(image.format).lower()
            warnings = _page_warnings(path.name, image)
            without_end = decode and bool(find_cut(path))
            if without_end:
                image = _read_uncut(path)
                warnings += (f"{path.name} lacks its last bytes; all its pixels are there.",)
            elif decode:
                image.load()
            transparent = decode and has_transparency(image)
            size_wh = orientation.apply_size(image.size)
    except MediaUnreadableError as error:
        if not _is_unidentified_tiff(path, error):
            raise
        size_wh = _tiff_size_wh(path)
        container = "tiff"
        warnings = ()
        without_end = False
        orientation = UPRIGHT
        check_pixels(path.name, size_wh, limits)
        transparent = decode and has_transparency(_read_with_opencv(path))
    return Probe(
        container,
        size_wh,
        orientation=orientation,
        warnings=warnings,
        without_end=without_end,
        transparent=transparent,
    )


def _read_uncut(path: Path) -> Image.Image:
    """An image that lacks its last bytes. Raises MediaUnreadableError when they held pixels."""
    image = read_without_end(path)
    if image is None:
        raise MediaUnreadableError(f"{path.name} is cut off.", hint="Download or copy it again.")
    return image


def _page_warnings(name: str, image: Image.Image) -> tuple[str, ...]:
    if image.format == "HEIF" and is_sequence(image):
        return (f"{name} is an image sequence; only its main image is read.",)
    count = getattr(image, "n_frames", 1) if image.format in ("TIFF", "HEIF") else 1
    if count == 1:
        return ()
    pages = "pages; only the first" if image.format == "TIFF" else "images; only the main one"
    return (f"{name} has {count} {pages} is read.",)


def read_still(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, upright. Raises MediaError, OutOfMemoryError."""
    try:
        with open_image(path) as image:
            return to_upright_rgb(image)
    except MediaUnreadableError as error:
        if _is_unidentified_tiff(path, error):
            return to_rgb(_read_with_opencv(path))
        restored = read_without_end(path)
        if restored is None:
            raise
    return to_upright_rgb(restored)


def to_upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An image of any Pillow mode → (H, W, 3) RGB, with its EXIF orientation applied, alpha over white."""
    return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An image of any Pillow mode → (H, W, 3) RGB, alpha over white."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_to_8bit(np.asarray(image))[:, :, None], 3, axis=2)
    image = to_srgb(image)
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, _WHITE)
        background.alpha_composite(image.convert("RGBA"))
        image = background
    return np.array(image.convert("RGB"), dtype=np.uint8)


def has_transparency(image: Image.Image) -> bool:
    """Whether a loaded image has a pixel that is not opaque."""
    if not image.has_transparency_data:
        return False
    alpha = (image if "A" in image.getbands() else image.convert("RGBA")).getchannel("A")
    return alpha.histogram()[255] < alpha.width * alpha.height


def _to_8bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """16-bit values are scaled by 1/257. Wider integers: 0 … 255 stay, 0 … 65535 are scaled by 1/257. Floats:
    0 … 1 are scaled by 255, 0 … 255 stay. Values outside these ranges are stretched from minimum to maximum;
    NaN is black."""
    if values.dtype == np.uint16:
        return np.asarray((values.astype(np.uint32) + 128) // 257, np.uint8)
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    ranges = (1.0, 255.0) if np.issubdtype(values.dtype, np.floating) else (255.0, 65535.0)
    top = next((top for top in ranges if low >= 0 and high <= top), None)
    if top is None:
        wide, top = wide - low, (high - low) or 1.0
    return np.asarray(np.rint(wide * (255.0 / top)), np.uint8)


def image_orientation(image: Image.Image, *, search_png: bool = True) -> Orientation:
    """The EXIF orientation. To find it after the pixels of a PNG, where it is rare, Pillow decodes these:
    only with `search_png`."""
    if image.format in ("TIFF", "HEIF"):  # turned while they are loaded; their size is the turned one
        return UPRIGHT
    if image.format == "PNG" and "exif" not in image.info and not search_png:
        return UPRIGHT
    return Orientation.from_exif(int(image.getexif().get(_EXIF_ORIENTATION, 1)))


def _is_unidentified_tiff(path: Path, error: MediaUnreadableError) -> bool:
    """Whether it is a TIFF that Pillow does not know: with a sample layout such as three floats per pixel, or
    a BigTIFF with the high byte first."""
    with translate_decoder_errors(path), path.open("rb") as file:
        head = file.read(8)
    is_known = not isinstance(error.__cause__, UnidentifiedImageError) and not head.startswith(b"MM\0+")
    return file_suffix(head) == ".tif" and not is_known


def _tiff_size_wh(path: Path) -> tuple[int, int]:
    with translate_decoder_errors(path), path.open("rb") as file:
        tags = read_directory(file).tags
        return tags[_TIFF_WIDTH][0], tags[_TIFF_HEIGHT][0]


@contextmanager
def _silent_opencv() -> Iterator[None]:
    """OpenCV prints what it finds wrong with a file."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _read_with_opencv(path: Path) -> Image.Image:
    """Any depth → 8 bits; grey, RGB or RGBA."""
    with translate_decoder_errors(path, "decoded"), _silent_opencv():
        bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if bgr is None:
        raise MediaUnreadableError(f"{path.name} cannot be decoded as TIFF.", hint=SUPPORTED_FORMATS)
    with translate_decoder_errors(path, "decoded", bgr.shape[1::-1]):
        values = bgr if bgr.dtype == np.uint8 else _to_8bit(bgr)
        return Image.fromarray(values if values.ndim == 2 else values[:, :, [2, 1, 0, 3][: values.shape[2]]])
