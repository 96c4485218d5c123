"""How stored pixels are rotated and mirrored for display. Knows nothing of files."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_EXIF = {
    # EXIF value → (transpose, flip_x, flip_y), the flips done after the transposition
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


@dataclass(frozen=True, slots=True)
class Orientation:
    """Swap the axes, then mirror left-right (`flip_x`), then top-bottom (`flip_y`)."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @staticmethod
    def from_exif(value: int) -> Orientation:
        """`value` is the EXIF orientation, 1 … 8; other values mean upright."""
        return Orientation(*_EXIF.get(value, (False, False, False)))

    @staticmethod
    def from_display_matrix(data: bytes) -> Orientation:
        """`data` is FFmpeg's display matrix: nine int32, of which [[a, b], [c, d]] moves a pixel (x, y) to
        (a·x + c·y, b·x + d·y). Angles are rounded to quarter turns."""
        a, b, _, c, d = struct.unpack_from("=5i", data)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return Orientation(True, c < 0, b < 0)
        return Orientation(False, a < 0, d < 0)

    @property
    def rotation_deg(self) -> int:
        """The clockwise turn: 0, 90, 180 or 270; for a mirrored image, the turn after the mirroring."""
        turns = {
            (False, False, False): 0,
            (True, True, False): 90,
            (False, True, True): 180,
            (True, False, True): 270,
            (False, True, False): 0,
            (True, True, True): 90,
            (False, False, True): 180,
            (True, False, False): 270,
        }
        return turns[(self.transpose, self.flip_x, self.flip_y)]

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) as stored → (H', W', 3) upright, C-contiguous."""
        if self.transpose:
            rgb = rgb.transpose(1, 0, 2)
        if self.flip_x:
            rgb = rgb[:, ::-1]
        if self.flip_y:
            rgb = rgb[::-1]
        return np.ascontiguousarray(rgb)

    def apply_size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        return (size_wh[1], size_wh[0]) if self.transpose else size_wh

    def apply_aspect(self, pixel_aspect: Fraction) -> Fraction:
        """Width by height of a pixel."""
        return 1 / pixel_aspect if self.transpose else pixel_aspect


UPRIGHT = Orientation()
