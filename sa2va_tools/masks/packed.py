"""Many masks of one size, compressed while they come in: a long track takes little memory.

Masks of consecutive frames have similar texts, so runs of them are compressed together. Knows nothing of
objects or files.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from operator import eq, index
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.masks import rle
from sa2va_tools.masks.rle import Rle

CHUNK = 32
"""Number of masks that are compressed, and decompressed, together."""
_SEPARATOR = "\n"  # no character of COCO's compressed counts
_LEVEL = 1  # the usual 6 makes ragged masks only 1 % smaller, in twice the time


class PackedRles(Sequence[Rle]):
    """RLEs of one size, in order. Any thread may read them. Reading in order, or the same one again, is
    cheap: the last decompressed chunk stays in memory."""

    __slots__ = ("_areas", "_chunks", "_slots", "_unpacked", "size_wh")

    def __init__(
        self,
        size_wh: tuple[int, int],
        chunks: tuple[bytes, ...],
        slots: NDArray[np.int64],
        areas: NDArray[np.int64],
    ) -> None:
        """The work of an `RlePacker`: mask n is number `slots[n]` % CHUNK of chunk `slots[n]` // CHUNK, and
        has `areas[n]` set pixels."""
        self.size_wh = size_wh
        self._chunks = chunks
        self._slots = slots
        self._areas = areas
        self._unpacked: tuple[int, list[str]] = (-1, [])

    @classmethod
    def pack(
        cls, size_wh: tuple[int, int], rles: Iterable[Rle], frames: Iterable[int] | None = None
    ) -> PackedRles:
        """`rles` in packed form; the same object if it is packed already.

        `frames` (increasing, one per mask) are for the error message; without them masks are numbered from 0.
        ValueError for a mask of another size, with its frame.
        """
        if isinstance(rles, cls) and rles.size_wh == size_wh:
            return rles
        packer = RlePacker(size_wh)
        numbered = enumerate(rles) if frames is None else zip(frames, rles, strict=True)
        for frame, encoded in numbered:
            packer.add(frame, encoded)
        return packer.finish()

    @property
    def areas(self) -> tuple[int, ...]:
        """The number of set pixels of each mask."""
        return tuple(self._areas.tolist())

    def iter_counts(self) -> Iterator[str]:
        """The `counts` of each mask, in order."""
        return map(self._read_counts, range(len(self)))

    def replace(self, at: int, encoded: Rle) -> PackedRles:
        """A copy with this mask as number `at`; all others are shared. ValueError for another size."""
        packer = RlePacker(self.size_wh)
        packer.add(at, encoded)
        other = packer.finish()
        slots = self._slots.copy()
        areas = self._areas.copy()
        slots[at] = CHUNK * len(self._chunks)
        areas[at] = other._areas[0]
        return PackedRles(self.size_wh, (*self._chunks, *other._chunks), slots, areas)

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, at: int) -> Rle: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Rle, ...]: ...
    def __getitem__(self, at: int | slice) -> Rle | tuple[Rle, ...]:
        if isinstance(at, slice):
            return tuple(self[each] for each in range(*at.indices(len(self))))
        width, height = self.size_wh
        return {"size": [height, width], "counts": self._read_counts(index(at))}

    def __eq__(self, other: object) -> bool:
        """Equal to any packed, tuple or list sequence of the same RLEs."""
        if not isinstance(other, PackedRles | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedRles, (self.size_wh, self._chunks, self._slots, self._areas)

    def __repr__(self) -> str:
        return f"<{len(self)} RLEs of {self.size_wh[0]}×{self.size_wh[1]}>"

    def _read_counts(self, at: int) -> str:
        chunk, place = divmod(int(self._slots[at]), CHUNK)
        number, texts = self._unpacked
        if number != chunk:
            texts = zlib.decompress(self._chunks[chunk]).decode("ascii").split(_SEPARATOR)
            self._unpacked = (chunk, texts)  # in one step, so that another thread gets both or neither
        return texts[place]


class RlePacker:
    """Packs masks as they are made, in any order of their frames."""

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self.size_wh = size_wh
        self._chunks: list[bytes] = []
        self._waiting: list[str] = []
        self._frames = array("q")
        self._slots = array("q")
        self._areas = array("q")

    def add(self, frame: int, encoded: Rle) -> None:
        """Add the mask of a frame. ValueError if it has another size or is not COCO's compressed form."""
        width, height = self.size_wh
        if list(encoded["size"]) != [height, width]:
            raise ValueError(
                f"rles: expected size [{height}, {width}] at frame {frame}, got {encoded['size']}"
            )
        if _SEPARATOR in encoded["counts"]:
            raise ValueError(f"rles: expected COCO's compressed counts at frame {frame}, got a line break")
        area = rle.area(encoded)
        self._slots.append(CHUNK * len(self._chunks) + len(self._waiting))
        self._areas.append(area)
        self._frames.append(frame)
        self._waiting.append(encoded["counts"])
        if len(self._waiting) == CHUNK:
            self._compress_waiting()

    def finish(self) -> PackedRles:
        """All masks so far, by frame. More may be added afterwards."""
        if self._waiting:
            self._compress_waiting()
        order = np.argsort(np.asarray(self._frames, np.int64), kind="stable")
        slots = np.asarray(self._slots, np.int64)[order]
        areas = np.asarray(self._areas, np.int64)[order]
        return PackedRles(self.size_wh, tuple(self._chunks), slots, areas)

    def _compress_waiting(self) -> None:
        text = _SEPARATOR.join(self._waiting)
        self._chunks.append(zlib.compress(text.encode("ascii"), _LEVEL))
        self._waiting = []
