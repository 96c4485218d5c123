"""How long the next walk through a clip will take, by those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

_REMEMBERED = 16
_OBJECT_SHARE = 0.3
"""Following one object over one frame, in encoder passes: a first guess, where a single walk cannot tell."""
_MEGAPIXEL_S = 0.01
"""Cutting a mask at full size and its RLE, on one core of a server: 0.003 for HD, 0.02 for 48 megapixels."""
_SAME = 1e-9
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
        a_frame, an_object = self._rates()
        return a_frame * encoded + (an_object + _MEGAPIXEL_S * megapixels) * followed

    def _rates(self) -> tuple[float, float]:
        """Seconds per encoded frame and per followed object and frame, by least squares. Not by a library's:
        numpy's first one ends the process where memory is short."""
        squares_e = sum(encoded * encoded for encoded, _, _ in self._walks)
        squares_f = sum(followed * followed for _, followed, _ in self._walks)
        mixed = sum(encoded * followed for encoded, followed, _ in self._walks)
        took_e = sum(encoded * took for encoded, _, took in self._walks)
        took_f = sum(followed * took for _, followed, took in self._walks)
        determinant = squares_e * squares_f - mixed * mixed
        if determinant > _SAME * squares_e * squares_f:  # else all walks are of one kind
            a_frame = (took_e * squares_f - took_f * mixed) / determinant
            an_object = (took_f * squares_e - took_e * mixed) / determinant
            if min(a_frame, an_object) >= 0:
                return a_frame, an_object
        passes = sum(encoded + _OBJECT_SHARE * followed for encoded, followed, _ in self._walks)
        share = sum(took for _, _, took in self._walks) / passes
        return share, _OBJECT_SHARE * share
