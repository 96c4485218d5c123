"""A picture into a file of the kind that its name asks for."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from sa2va_tools import atomic
from sa2va_tools.errors import RequestError

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_QUALITY = 92


def picture_format(path: Path) -> str:
    """`PNG`, `JPEG` or `WEBP` by the suffix. RequestError for another one."""
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise RequestError(
            f"{path.name} does not say which kind of picture to write.",
            hint="End it with .png, .jpg or .webp.",
        ) from None


def write_picture(path: Path, data: bytes, mime_type: str) -> None:
    """Write the encoded image, converted if its kind is not that of the suffix; whole or not at all.
    StoreError when the disk refuses."""
    kind = picture_format(path)
    if mime_type != f"image/{kind.lower()}":
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(data)) as picture:
            picture.save(buffer, kind, quality=_QUALITY)
        data = buffer.getvalue()
    atomic.write_bytes(path, data)
