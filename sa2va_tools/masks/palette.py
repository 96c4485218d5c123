"""Colours and text in pictures: one colour per object number, badges, captions. Knows nothing of masks."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Rgb = tuple[int, int, int]

# Neighbours differ in lightness as well as in hue, because lightness remains visible under the common
# colour-vision deficiencies. Numbers are drawn with the colours everywhere all the same.
PALETTE: tuple[Rgb, ...] = (
    (230, 159, 0),  # orange
    (0, 114, 178),  # blue
    (240, 228, 66),  # yellow
    (136, 34, 85),  # wine
    (86, 180, 233),  # sky
    (213, 94, 0),  # vermilion
    (0, 158, 115),  # green
    (204, 121, 167),  # pink
    (51, 34, 136),  # indigo
    (221, 204, 119),  # sand
    (68, 170, 153),  # teal
    (153, 153, 51),  # olive
    (170, 68, 153),  # purple
    (255, 170, 187),  # rose
)
BLACK: Rgb = (0, 0, 0)
WHITE: Rgb = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT_PX = 21.5  # height of a digit at scale 1


def pick_color(number: int) -> Rgb:
    """The colour of object `number` (1, 2, 3, …); colours repeat after len(PALETTE)."""
    return PALETTE[(number - 1) % len(PALETTE)]


def pick_text_color(color: Rgb) -> Rgb:
    """Black or white, whichever is easier to read on `color`."""
    red, green, blue = color
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE


def lighten(color: Rgb, amount: float) -> Rgb:
    """`color` moved towards white by `amount`, 0 … 1."""
    red, green, blue = (round(value + (255 - value) * amount) for value in color)
    return (red, green, blue)


def measure_badge_wh(number: int, height_px: int) -> tuple[int, int]:
    """The size of the badge that `draw_badge` draws for this number."""
    return (round(height_px * (1.0 + 0.5 * (len(str(number)) - 1))), height_px)


def draw_badge(rgb: NDArray[np.uint8], number: int, left_top: tuple[int, int], height_px: int) -> None:
    """Draw the object's number on a filled box of its colour, with a dark and a light rim, in place.

    Needs 11 pixels of height to be readable.
    """
    color = pick_color(number)
    x, y = left_top
    width, height = measure_badge_wh(number, height_px)
    cv2.rectangle(rgb, (x, y), (x + width - 1, y + height - 1), BLACK, -1)
    cv2.rectangle(rgb, (x + 1, y + 1), (x + width - 2, y + height - 2), WHITE, -1)
    cv2.rectangle(rgb, (x + 2, y + 2), (x + width - 3, y + height - 3), color, -1)
    scale = (height - 7) / _FONT_HEIGHT_PX
    thickness = max(1, round(scale * 2))
    (text_width, text_height), _ = cv2.getTextSize(str(number), _FONT, scale, thickness)
    origin = (x + (width - text_width + 1) // 2, y + (height + text_height) // 2)
    cv2.putText(rgb, str(number), origin, _FONT, scale, pick_text_color(color), thickness, cv2.LINE_AA)


def draw_text_strip(
    text: str, size_wh: tuple[int, int], *, ink: Rgb = WHITE, paper: Rgb = BLACK
) -> NDArray[np.uint8]:
    """One line of text, (h, w, 3) uint8, cut with an ellipsis if it is too long.

    Any text is accepted; letters that the built-in font lacks lose their accents or show as boxes.
    """
    width, height = size_wh
    strip = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(strip)
    font = _load_font(max(8, round(height * 0.7)))
    pad = max(2, height // 5)
    fitted = _fit_text(_make_printable(text), font, width - 2 * pad)
    draw.text((pad, height / 2), fitted, fill=ink, font=font, anchor="lm")
    return np.array(strip)


@lru_cache(maxsize=16)
def _load_font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _make_printable(text: str) -> str:
    """Make the text printable on one line: drop accents (the built-in font lacks them), replace control
    characters by spaces and lone surrogates by question marks."""
    encodable = text[:500].encode("utf-8", errors="replace").decode("utf-8")
    bare = [ch for ch in unicodedata.normalize("NFKD", encodable) if not unicodedata.combining(ch)]
    return " ".join("".join(ch if ch.isprintable() else " " for ch in bare).split())


def _fit_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    if font.getlength(text) <= width_px:
        return text
    low = 0
    high = len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle] + "…") <= width_px:
            low = middle
        else:
            high = middle - 1
    return text[:low] + "…" if low else ""
