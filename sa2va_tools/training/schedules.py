"""Learning rates as functions of the part (0 … 1) of a stage's time that has passed."""

from __future__ import annotations

import math


def cosine(progress: float, floor: float = 0.03) -> float:
    """From 1 down to `floor` along half a cosine."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def late_linear(progress: float, floor: float = 0.03, hold: float = 0.25) -> float:
    """1 for the first `hold` of the time, then straight down to `floor`."""
    return max(floor, 1 - (1 - floor) * max(0.0, progress - hold) / (1 - hold))
