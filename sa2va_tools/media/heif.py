"""HEIC images through pillow-heif, AVIF images through Pillow, without registering a plugin for the process.

Both formats store the rotation in the container, and the EXIF orientation does not count. pillow-heif returns
pixels that are already turned; Pillow reports the container's rotation as the EXIF orientation.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, features

from sa2va_tools.errors import MissingExtraError

HEIF_SUFFIXES = (".heic", ".avif")
"""As `sniff.file_suffix` returns them."""


def open_heif(path: Path, suffix: str) -> Image.Image:
    """The header of a HEIC or AVIF file. Raises MissingExtraError when the library for it is not installed,
    and whatever the libraries raise."""
    if suffix == ".avif":
        if "avif" not in features.modules or not features.check("avif"):
            raise MissingExtraError("pillow>=11.3 (with AVIF)", "heif")
        return Image.open(path, formats=("AVIF",))
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise MissingExtraError("pillow-heif", "heif") from error
    image: Image.Image = HeifImageFile(str(path))
    return image


def is_sequence(image: Image.Image) -> bool:
    """Whether a HEIC file is an image sequence, by its brand."""
    return str(getattr(image, "custom_mimetype", "")).endswith("-sequence")
