"""Many masks of one size, compressed while they come in: a long track takes little memory.

Masks of frames that follow each other have texts that are much alike, so that runs of them are compressed
together. Knows nothing of objects or files.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from operator import eq, index
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.masks import rle as rles_of
from sa2va_tools.masks.rle import Rle

CHUNK = 32
"""Masks that are compressed together; a read unpacks as many."""
_BETWEEN = "\n"  # no character of COCO's compressed counts
_LEVEL = 1  # ragged masks gain one part in a hundred from the usual 6, which takes twice the time


class PackedRles(Sequence[Rle]):
    """RLEs of one size, in order. Any thread may read; one by one, or in order, is cheap: what was unpacked
    last stays."""

    __slots__ = ("_areas", "_chunks", "_slots", "_unpacked", "size_wh")

    def __init__(
        self,
        size_wh: tuple[int, int],
        chunks: tuple[bytes, ...],
        slots: NDArray[np.int64],
        areas: NDArray[np.int64],
    ) -> None:
        """What a `RlePacker` made: mask n is number `slots[n]` % CHUNK of chunk `slots[n]` // CHUNK, with
        `areas[n]` pixels set."""
        self.size_wh, self._chunks, self._slots, self._areas = size_wh, chunks, slots, areas
        self._unpacked: tuple[int, list[str]] = -1, []

    @classmethod
    def of(
        cls, size_wh: tuple[int, int], rles: Iterable[Rle], frames: Iterable[int] | None = None
    ) -> PackedRles:
        """`rles` themselves where they are packed and of this size. ValueError where one has another size,
        naming its frame: its place unless `frames`, increasing and as many, are given."""
        if isinstance(rles, cls) and rles.size_wh == size_wh:
            return rles
        packer = RlePacker(size_wh)
        for frame, rle in enumerate(rles) if frames is None else zip(frames, rles, strict=True):
            packer.add(frame, rle)
        return packer.packed()

    @property
    def areas(self) -> tuple[int, ...]:
        """Set pixels of each."""
        return tuple(self._areas.tolist())

    def counts(self) -> Iterator[str]:
        """The text of each, in order."""
        return map(self._counts_at, range(len(self)))

    def given(self, at: int, rle: Rle) -> PackedRles:
        """With that one in the place of number `at`. All others are shared. ValueError for another size."""
        packer = RlePacker(self.size_wh)
        packer.add(at, rle)
        other = packer.packed()
        slots, areas = self._slots.copy(), self._areas.copy()
        slots[at], areas[at] = CHUNK * len(self._chunks), other._areas[0]
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
        return {"size": [height, width], "counts": self._counts_at(index(at))}

    def __eq__(self, other: object) -> bool:
        """Also with a tuple or a list of RLEs."""
        if not isinstance(other, PackedRles | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedRles, (self.size_wh, self._chunks, self._slots, self._areas)

    def __repr__(self) -> str:
        return f"<{len(self)} RLEs of {self.size_wh[0]}×{self.size_wh[1]}>"

    def _counts_at(self, at: int) -> str:
        chunk, place = divmod(int(self._slots[at]), CHUNK)
        number, texts = self._unpacked
        if number != chunk:
            texts = zlib.decompress(self._chunks[chunk]).decode("ascii").split(_BETWEEN)
            self._unpacked = chunk, texts  # at once: another thread sees both or neither
        return texts[place]


class RlePacker:
    """Takes masks as they are made, in any order of their frames."""

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self.size_wh = size_wh
        self._chunks: list[bytes] = []
        self._waiting: list[str] = []
        self._frames, self._slots, self._areas = array("q"), array("q"), array("q")

    def add(self, frame: int, rle: Rle) -> None:
        """ValueError where the mask has another size, or is none."""
        width, height = self.size_wh
        if list(rle["size"]) != [height, width]:
            raise ValueError(f"rles: expected size [{height}, {width}] at frame {frame}, got {rle['size']}")
        if _BETWEEN in rle["counts"]:
            raise ValueError(f"rles: expected COCO's compressed counts at frame {frame}, got a line break")
        area = rles_of.area(rle)
        self._slots.append(CHUNK * len(self._chunks) + len(self._waiting))
        self._areas.append(area)
        self._frames.append(frame)
        self._waiting.append(rle["counts"])
        if len(self._waiting) == CHUNK:
            self._pack()

    def packed(self) -> PackedRles:
        """All masks so far, by frame."""
        if self._waiting:
            self._pack()
        order = np.argsort(np.asarray(self._frames, np.int64), kind="stable")
        slots, areas = (np.asarray(each, np.int64)[order] for each in (self._slots, self._areas))
        return PackedRles(self.size_wh, tuple(self._chunks), slots, areas)

    def _pack(self) -> None:
        self._chunks.append(zlib.compress(_BETWEEN.join(self._waiting).encode("ascii"), _LEVEL))
        self._waiting = []
