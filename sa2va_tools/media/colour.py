"""HDR and wide-gamut RGB → 8-bit SDR RGB with BT.709 primaries, as an SDR screen shows it.

HDR signals become light by ITU-R BT.2100 (PQ: SMPTE ST 2084; HLG with its OOTF for a screen of 1000 cd/m²).
White is 203 cd/m² (BT.2408). Primaries are converted by linear matrices (BT.2087). Up to 70 % of white
nothing changes; brighter light is compressed so that 1000 cd/m² become white (the shoulder of Reinhard et
al., "Photographic tone reproduction for digital images", 2002, equation 4). Light becomes SDR by the inverse
of BT.1886 (a power of 2.4), or of sRGB for pictures. All this is the same for every frame, so a frame's
pixels do not depend on the others.

Ordinary SDR (BT.709, BT.601, sRGB, or nothing said) is not touched: there is no conversion for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Screen = Literal["bt1886", "srgb"]
"""How SDR code values become light: of videos, of pictures."""

_WHITE_NITS = 203.0
_PEAK_NITS = 1000.0
_KNEE = 0.7
"""Share of white up to which light is kept."""
_PQ, _HLG, _SRGB = 16, 18, 13
"""Transfer characteristics by ITU-T H.273."""
_SDR_CURVES = frozenset({0, 1, 2, 6, _SRGB, 14, 15})
_BT709, _BT2020, _P3 = 1, 9, 12
"""Colour primaries by ITU-T H.273; 12 is P3 with the white of BT.709 (Display P3)."""
_D65 = (0.3127, 0.3290)
_PRIMARIES = {
    _BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    _BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    _P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_BT2020_LUMA = (0.2627, 0.6780, 0.0593)
_STEPS = 1 << 16
_ROWS = 16
"""Rows that are converted at once, so that they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class ColourConversion:
    """From one kind of HDR or wide-gamut signal to SDR. Compare and hash by its fields."""

    transfer: int
    primaries: int
    screen: Screen

    def apply(self, rgb: NDArray[np.uint16] | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) non-linear RGB, full range → (H, W, 3) 8-bit RGB."""
        to_light = _signal_to_light(self.transfer, self.screen, np.iinfo(rgb.dtype).max + 1)
        to_code = _light_to_code(self.is_hdr, self.screen)
        matrix = _matrix(self.primaries)
        top = _top_light(self.is_hdr)
        out = np.empty(rgb.shape, np.uint8)
        for start in range(0, len(rgb), _ROWS):
            light = np.take(to_light, rgb[start : start + _ROWS])
            if self.transfer == _HLG:
                light = _apply_ootf(light)
            light = cv2.transform(light, matrix)
            np.clip(light, 0, top, out=light)
            np.sqrt(light, out=light)  # finer steps where it is dark
            light *= (_STEPS - 1) / top**0.5
            out[start : start + _ROWS] = np.take(to_code, light.astype(np.uint16))
        return out

    @property
    def is_hdr(self) -> bool:
        """Whether it may be brighter than white."""
        return self.transfer in (_PQ, _HLG)


def find_conversion(transfer: int, primaries: int, screen: Screen = "bt1886") -> ColourConversion | None:
    """By transfer characteristics and colour primaries (ITU-T H.273); None for ordinary SDR."""
    if transfer in (_PQ, _HLG):
        return ColourConversion(transfer, primaries if primaries in _PRIMARIES else _BT2020, screen)
    if transfer in _SDR_CURVES and primaries in (_BT2020, _P3):
        return ColourConversion(0, primaries, screen)
    return None


def convert_image(rgba: NDArray[Any], conversion: ColourConversion) -> NDArray[np.uint8]:
    """(H, W, 3) RGB or (H, W, 4) RGBA, 8 or 16 bits → 8 bits; alpha is kept."""
    rgb = conversion.apply(np.ascontiguousarray(rgba[:, :, :3]))
    if rgba.shape[2] == 3:
        return rgb
    alpha = rgba[:, :, 3]
    return np.dstack([rgb, (alpha >> 8 if alpha.dtype == np.uint16 else alpha).astype(np.uint8)])


# ---- tables: float32, light as a share of white ---------------------------------------------------


@cache
def _signal_to_light(transfer: int, screen: Screen, steps: int) -> Floats:
    """Light of each code value; for HLG that of the scene, 0 … 1, to which the OOTF has to be applied."""
    signal = np.arange(steps, dtype=np.float64) / (steps - 1)
    curves: dict[int, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        _PQ: _pq_light,
        _HLG: _hlg_light,
    }
    curve = curves.get(transfer, _srgb_light if screen == "srgb" else _bt1886_light)
    return curve(signal).astype(np.float32)


def _pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = signal ** (1 / m2)
    nits = 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return np.asarray(nits / _WHITE_NITS)


def _hlg_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _bt1886_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(signal**2.4)


def _srgb_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


@cache
def _light_to_code(is_hdr: bool, screen: Screen) -> NDArray[np.uint8]:
    """Code values of light that is given as _STEPS steps of its square root, up to `_top_light`."""
    light = (np.arange(_STEPS) / (_STEPS - 1)) ** 2 * _top_light(is_hdr)
    if is_hdr:
        over = np.maximum(light - _KNEE, 0)
        room, span = 1 - _KNEE, _top_light(is_hdr) - _KNEE
        light = np.minimum(light, _KNEE) + over / (1 + over * (1 / room - 1 / span))
    srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    signal = srgb if screen == "srgb" else light ** (1 / 2.4)
    return np.asarray(np.rint(np.clip(signal, 0, 1) * 255), np.uint8)


def _top_light(is_hdr: bool) -> float:
    return _PEAK_NITS / _WHITE_NITS if is_hdr else 1.0


@cache
def _matrix(primaries: int) -> Floats:
    """(3, 3) linear RGB → linear RGB with BT.709 primaries."""
    return np.linalg.solve(_rgb_to_xyz(_BT709), _rgb_to_xyz(primaries)).astype(np.float32)


def _rgb_to_xyz(primaries: int) -> NDArray[np.float64]:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _PRIMARIES[primaries]]).T
    white = np.array([_D65[0] / _D65[1], 1, (1 - sum(_D65)) / _D65[1]])
    return np.asarray(columns * np.linalg.solve(columns, white))


def _apply_ootf(light: Floats) -> Floats:
    """(H, W, 3) light of the scene → light of the screen, with the gamma 1.2 of BT.2100."""
    luminance = cv2.transform(light, np.array([_BT2020_LUMA], np.float32))
    gain = cv2.pow(luminance, 0.2)
    return np.asarray(cv2.multiply(light, cv2.merge([gain] * 3), scale=_PEAK_NITS / _WHITE_NITS))
