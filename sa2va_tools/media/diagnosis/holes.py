"""Whether bytes in the middle of a file were never written, as in downloads of several parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sa2va_tools.media.failures import translate_decoder_errors

_MIN_HOLE = bytes(1024)
"""So many zero bytes in a row do not occur in compressed pictures or sound."""
_CHUNK = 1 << 20


def has_hole(path: Path, stretches: Iterable[tuple[int, int]]) -> bool:
    """Whether a long run of zero bytes lies in one of these stretches of the file. Raises MediaError."""
    with translate_decoder_errors(path), path.open("rb") as file:
        for start, end in stretches:
            for at in range(start, end, _CHUNK - len(_MIN_HOLE)):
                file.seek(at)
                if _MIN_HOLE in file.read(min(_CHUNK, end - at)):
                    return True
    return False
