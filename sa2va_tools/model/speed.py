"""How long the next walk through a clip will take, by those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

_REMEMBERED = 16
_OBJECT_SHARE = 0.3
"""Following one object over one frame, in encoder passes: a first guess, where a single walk cannot tell."""
_MEGAPIXEL_S = 0.025
"""Cutting a mask at full size and its RLE, on one core of a server (measured on 12 and 48 megapixels)."""
_LEAST_SHARE = 0.01  # of a walk's time that is the model's, whatever that guess says


class Speed:
    """Seconds per encoded frame and per followed object and frame, fitted to the last walks."""

    def __init__(self) -> None:
        self._walks: deque[tuple[int, int, float]] = deque(maxlen=_REMEMBERED)

    @property
    def walks(self) -> tuple[tuple[int, int, float], ...]:
        """What was learnt, to be taken up again (`recall`) by another process."""
        return tuple(self._walks)

    def recall(self, walks: Iterable[tuple[int, int, float]]) -> None:
        """Take `walks` for older ones than those of its own."""
        self._walks = deque([*walks, *self._walks], _REMEMBERED)

    def learn(self, encoded: int, followed: int, seconds: float, megapixels: float = 0.0) -> None:
        """A walk over `encoded` frames that were not kept, with `followed` objects × frames of so many
        `megapixels` each."""
        if encoded + followed:
            own = max(seconds - _MEGAPIXEL_S * followed * megapixels, _LEAST_SHARE * seconds)
            self._walks.append((encoded, followed, own))

    def seconds(self, encoded: int, followed: int, megapixels: float = 0.0) -> float | None:
        """What such a walk takes; None before the first."""
        if not self._walks:
            return None
        known = np.array([walk[:2] for walk in self._walks], float)
        took = np.array([walk[2] for walk in self._walks])
        rates = np.linalg.lstsq(known, took, rcond=None)[0]
        if np.linalg.matrix_rank(known) < 2 or (rates < 0).any():
            passes = known @ [1, _OBJECT_SHARE]
            rates = took.sum() / passes.sum() * np.array([1, _OBJECT_SHARE])
        return float(rates @ [encoded, followed]) + _MEGAPIXEL_S * followed * megapixels
