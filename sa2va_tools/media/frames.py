"""One decoded video frame → 8-bit RGB as players show it: alpha on white, HDR as SDR, without combing.

Depends on nothing but the frame itself, so a frame has the same pixels wherever decoding began.
"""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.media.colour import ColourConversion, convert_image, find_conversion
from sa2va_tools.media.stills import to_rgb

Rgb = NDArray[np.uint8]

_MATRICES = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
"""Matrix coefficients by ITU-T H.273 that FFmpeg converts; 0 is RGB, 2 is unknown."""
_BT709_MATRIX, _BT2020_MATRIX = 1, 9
_BT2020_PRIMARIES = 9
_COMB_STEP = 10
"""Levels by which a pixel must leave the range of its neighbours above and below to count as combing."""


def frame_to_rgb(frame: Any) -> Rgb:
    """(H, W, 3) as stored: not yet turned. Wrap it in `translate_decoder_errors`."""
    conversion = find_conversion(int(frame.color_trc or 0), int(frame.color_primaries or 0))
    if not frame.interlaced_frame or frame.height < 4:
        return _convert(frame, conversion)
    top, bottom = (_convert(_take_field(frame, parity), conversion) for parity in (0, 1))
    return _deinterlace(top, bottom)


def has_alpha(frame: Any) -> bool:
    """Of a frame, or of a stream's frames."""
    return frame.format is not None and any(component.is_alpha for component in frame.format.components)


def _convert(frame: Any, conversion: ColourConversion | None) -> Rgb:
    alpha = has_alpha(frame)
    if conversion is None:
        if not alpha:
            return _to_array(frame, "rgb24")
        pixels = _to_array(frame, "rgba")
    else:
        pixels = convert_image(_to_array(frame, "rgba64le" if alpha else "rgb48le"), conversion)
    return to_rgb(Image.fromarray(pixels)) if alpha else pixels


def _to_array(frame: Any, pix_fmt: str) -> NDArray[Any]:
    """The frame as RGB. For a matrix that FFmpeg does not convert, a similar one is used."""
    matrix = None
    if int(frame.colorspace) not in _MATRICES:
        matrix = _BT2020_MATRIX if frame.color_primaries == _BT2020_PRIMARIES else _BT709_MATRIX
    return np.asarray(frame.reformat(format=pix_fmt, src_colorspace=matrix).to_ndarray())


def _take_field(frame: Any, parity: int) -> Any:
    """The lines 0, 2, … or 1, 3, … as a frame of their own. Only so does each line get its own chroma: that
    of 4:2:0 is stored by field, too."""
    field = av.VideoFrame(frame.width, (frame.height + 1 - parity) // 2, frame.format.name)
    field.colorspace = frame.colorspace
    field.color_range = frame.color_range
    field.color_primaries = frame.color_primaries
    for source, target in zip(frame.planes, field.planes, strict=True):
        stride = source.line_size
        lines = np.frombuffer(source, np.uint8)[: source.height * stride].reshape(-1, stride)[parity::2]
        width = min(stride, target.line_size)
        copied = np.zeros((target.buffer_size // target.line_size, target.line_size), np.uint8)
        copied[: len(lines), :width] = lines[: len(copied), :width]
        copied[len(lines) :] = copied[len(lines) - 1]
        target.update(copied)
    return field


def _deinterlace(top: Rgb, bottom: Rgb) -> Rgb:
    """The lines of the first field, and those of the second where nothing moved. Elsewhere these would show
    another moment (combing), and are interpolated: a pixel far outside the range of its neighbours above and
    below is their mean."""
    woven = np.empty((len(top) + len(bottom), *top.shape[1:]), np.uint8)
    woven[0::2] = top
    above = top[: len(bottom)]
    below = np.concatenate([top[1:], top[-1:]])[: len(bottom)]
    step = (_COMB_STEP,) * 3
    low = cv2.subtract(cv2.min(above, below), step)
    high = cv2.add(cv2.max(above, below), step)
    mean = cv2.addWeighted(above, 0.5, below, 0.5, 0)
    woven[1::2] = cv2.copyTo(bottom, cv2.inRange(bottom, low, high), mean)
    return woven
