"""A frame rate as a caller gives it → an exact one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from sa2va_tools.errors import RequestError, WrongTypeError
from sa2va_tools.wording import argument

_MAX_FPS = 90_000


def parse_frame_rate(fps: object) -> Fraction:
    """Frames per second. Raises TypeError, RequestError."""
    if isinstance(fps, bool) or not isinstance(fps, (int, float, Fraction, np.integer, np.floating)):
        raise WrongTypeError(f"fps has type {type(fps).__name__}; expected an int, a float or a Fraction.")
    rate = Fraction(0)
    if 0 < fps <= _MAX_FPS:
        rate = fps if isinstance(fps, Fraction) else Fraction(float(fps)).limit_denominator(1_000_000)
    if rate <= 0:
        raise RequestError(f"{argument('fps')} is {fps}; expected a number above 0, at most {_MAX_FPS:,}.")
    return rate
