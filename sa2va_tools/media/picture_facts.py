"""What a video says about its picture besides pixels, and warnings where a player shows something else."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from sa2va_tools.media.alpha_decoder import find_alpha_decoder, stores_alpha_aside
from sa2va_tools.media.frames import has_alpha

_UNKNOWN_MATRICES = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "SMPTE 2085",
    13: "constant luminance",
    14: "ICtCp",
    15: "IPT",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
"""Matrix coefficients by ITU-T H.273 that FFmpeg does not convert."""
_STEREO = {1: "side by side", 2: "one above the other", 4: "as a checkerboard", 5: "side by side"}
_STEREO |= {6: "in alternating lines", 7: "in alternating columns"}
"""FFmpeg's AVStereo3DType, where one frame holds both views."""
_SPHERES = {
    0: "equirectangular",
    1: "cube map",
    2: "equirectangular",
    3: "half equirectangular",
    5: "fisheye",
}
"""FFmpeg's AVSphericalProjection."""
MIN_LATE_S = 0.1
"""From here on, a late start is worth a warning."""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """Of a stream and its first frame."""

    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel by its height, as stored."""
    has_alpha: bool = False
    has_alpha_aside: bool = False
    """Whether the alpha channel is stored beside the frames and has its own key frames."""
    loses_alpha: bool = False
    matrix: str = ""
    """The name of a colour matrix that is not converted."""
    stereo: str = ""
    """How one frame holds two views."""
    sphere: str = ""
    """How a frame shows all directions."""

    def warnings(self, name: str, start_s: float) -> tuple[str, ...]:
        """`start_s` is when a player shows the first frame."""
        found = []
        if self.pixel_aspect != 1:
            found.append(
                f"{name} has pixels that are not square ({self.pixel_aspect}). They are read as square, and "
                "coordinates count them; overlays are shown like the video."
            )
        if self.has_alpha:
            found.append(f"{name} has an alpha channel; its frames are shown on white.")
        if self.loses_alpha:
            found.append(f"{name} has an alpha channel, which is not read.")
        if self.matrix:
            found.append(
                f"{name} uses the colour matrix {self.matrix}, which is not supported: its colours are wrong."
            )
        if self.stereo:
            found.append(
                f"Each frame of {name} shows two views for the two eyes, {self.stereo}; both are read."
            )
        if self.sphere:
            found.append(f"{name} is a 360° video ({self.sphere}); its frames are read as they are stored.")
        if start_s >= MIN_LATE_S:
            found.append(late_warning(name, start_s))
        return tuple(found)


def describe_picture(stream: Any, frame: Any) -> PictureFacts:
    """Wrap it in `translate_decoder_errors`."""
    aspect = stream.sample_aspect_ratio
    aside = stores_alpha_aside(stream) and find_alpha_decoder(stream) is not None
    return PictureFacts(
        pixel_aspect=Fraction(aspect) if aspect and aspect > 0 else Fraction(1),
        has_alpha=has_alpha(frame),
        has_alpha_aside=aside,
        loses_alpha=stores_alpha_aside(stream) and not has_alpha(frame),
        matrix=_UNKNOWN_MATRICES.get(int(frame.colorspace), ""),
        stereo=_STEREO.get(_first_int(frame, "STEREO3D"), ""),
        sphere=_SPHERES.get(_first_int(frame, "SPHERICAL"), ""),
    )


def _first_int(frame: Any, kind: str) -> int:
    """The first field of side data that begin with one; -1 if the frame has none."""
    data = frame.side_data.get(kind)
    return -1 if data is None else int(struct.unpack_from("=i", bytes(data))[0])


def read_container_start(container: Any) -> float:
    """Second 0 of a player's clock, as the container counts: where its first stream begins."""
    return int(container.start_time or 0) / int(av.time_base)


def late_warning(name: str, start_s: float) -> str:
    """Says by how much a player's clock differs."""
    return (
        f"A player shows the first picture of {name} at {start_s:.2f} s, because the sound begins earlier. "
        "Seconds here count from the first picture."
    )
