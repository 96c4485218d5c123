"""The colours of a still image → sRGB: by its ICC profile, or by the code points (CICP) of HDR files.

An image whose profile differs from sRGB by less than an eye sees is not touched. A profile that is damaged,
or belongs to another kind of pixels, is ignored, as viewers do.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from sa2va_tools.media.colour import convert_image, find_conversion

_CICP = "sa2va_cicp"
"""Our entry in an image's `info`: (colour primaries, transfer characteristics) by ITU-T H.273."""
_MAX_UNSEEN = 3
"""Levels of 255 by which colours may differ from sRGB without being converted."""
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_MAX_CHUNKS = 64
_MAX_META_BYTES = 1 << 20
_CONTAINER_BOXES = {b"meta": 4, b"iprp": 0, b"ipco": 0}
"""Boxes that contain boxes, and the bytes before these."""


def note_code_points(image: Image.Image, path: Path, suffix: str) -> None:
    """Keep in the image what its file says about its colours and Pillow does not. Raises OSError, ValueError
    and struct.error for damaged files."""
    found = None
    if suffix == ".png":
        found = _read_png(path)
    elif suffix == ".avif":
        found = _read_avif(path)
    elif nclx := image.info.get("nclx_profile"):
        found = int(nclx["color_primaries"]), int(nclx["transfer_characteristics"])
    if found is not None:
        image.info[_CICP] = found


def to_srgb(image: Image.Image) -> Image.Image:
    """The image in sRGB: the same object if it already is. Alpha is kept, modes may become RGB or RGBA."""
    primaries, transfer = image.info.get(_CICP, (0, 0))
    conversion = find_conversion(transfer, primaries, "srgb")
    if conversion is not None:
        pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
        return Image.fromarray(convert_image(pixels, conversion))
    profile = image.info.get("icc_profile")
    return image if not profile else _apply_profile(image, bytes(profile))


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    mode = {"1": "L", "LA": "L", "CMYK": "CMYK", "L": "L"}.get(image.mode, "RGB")
    transform = _make_transform(profile, mode)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image.convert(mode), transform)
    assert converted is not None  # it is only with `inPlace`
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


@lru_cache(maxsize=8)
def _make_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; None if the profile cannot be used, or makes no difference that is seen."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        return None
    probe = _make_probe(mode)
    converted = ImageCms.applyTransform(probe, transform)
    difference = np.asarray(converted, np.int16) - np.asarray(probe.convert("RGB"), np.int16)
    return None if int(np.abs(difference).max()) <= _MAX_UNSEEN else transform


def _make_probe(mode: str) -> Image.Image:
    """Colours spread over the whole range."""
    levels = range(0, 256, 51)
    channels = len(Image.new(mode, (1, 1)).getbands())
    colours = np.array(list(itertools.product(levels, repeat=channels)), np.uint8)
    return Image.fromarray(colours[None] if channels > 1 else colours.reshape(1, -1), mode)


def _read_png(path: Path) -> tuple[int, int] | None:
    """The chunk cICP, which stands before the pixels."""
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IDAT":
                return None
            if head[4:] == b"cICP":
                primaries, transfer = file.read(2)
                return primaries, transfer
            file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return None


# ---- AVIF (ISO/IEC 14496-12): the property `colr` of the primary item --------------------------------


def _read_avif(path: Path) -> tuple[int, int] | None:
    with path.open("rb") as file:
        data = file.read(_MAX_META_BYTES)
    boxes: dict[bytes, bytes] = {}
    properties: list[tuple[bytes, bytes]] = []
    for kind, body, parent in _iter_boxes(data, b""):
        if parent == b"ipco":
            properties.append((kind, body))
        elif parent in (b"meta", b"iprp"):
            boxes.setdefault(kind, body)
    if b"pitm" not in boxes or b"ipma" not in boxes:
        return None
    for at in _list_properties(boxes[b"ipma"], _primary_item(boxes[b"pitm"])):
        kind, body = properties[at - 1] if 0 < at <= len(properties) else (b"", b"")
        if kind == b"colr" and body.startswith(b"nclx"):
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return primaries, transfer
    return None


def _iter_boxes(data: bytes, parent: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(kind, content, kind of the parent), also within those boxes that contain what we look for."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        kind = data[at + 4 : at + 8]
        if size < 8:
            return
        body = data[at + 8 : at + size]
        yield kind, body, parent
        if kind in _CONTAINER_BOXES:
            yield from _iter_boxes(body[_CONTAINER_BOXES[kind] :], kind)
        at += size


def _primary_item(body: bytes) -> int:
    return int.from_bytes(body[4:6] if body[0] == 0 else body[4:8], "big")


def _list_properties(body: bytes, item: int) -> list[int]:
    """Numbers, from 1, of an item's properties in `ipco`, by the box `ipma`."""
    id_bytes = 2 if body[0] == 0 else 4
    step = 2 if body[3] & 1 else 1
    at = 8
    for _ in range(int.from_bytes(body[4:8], "big")):
        number = int.from_bytes(body[at : at + id_bytes], "big")
        count = body[at + id_bytes]
        at += id_bytes + 1
        found = [int.from_bytes(body[at + step * i : at + step * (i + 1)], "big") for i in range(count)]
        if number == item:
            return [value & (0x7FFF if step == 2 else 0x7F) for value in found]
        at += step * count
    return []
