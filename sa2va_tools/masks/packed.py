"""Many masks of one size, compressed while they come in: a long track takes little memory.

Masks of frames that follow each other have texts that are much alike, so that runs of them are compressed
together. Knows nothing of frames, objects or files.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from operator import eq
from typing import overload

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.masks import rle as rles_of
from sa2va_tools.masks.rle import Rle

CHUNK = 64
"""Masks that are compressed together; a read unpacks as many."""
_BETWEEN = "\n"  # no character of COCO's compressed counts


class PackedRles(Sequence[Rle]):
    """RLEs of one size, in order. Any thread may read; one by one, or in order, is cheap: what was unpacked
    last stays."""

    __slots__ = ("_areas", "_chunks", "_order", "_unpacked", "size_wh")

    def __init__(
        self,
        size_wh: tuple[int, int],
        chunks: Sequence[bytes],
        order: NDArray[np.intp],
        areas: NDArray[np.int64],
    ) -> None:
        """What a `RlePacker` made: `order` (n,) tells as which of the masks in `chunks` each one came in,
        `areas` (n,) are their set pixels."""
        self.size_wh, self._chunks, self._order, self._areas = size_wh, tuple(chunks), order, areas
        self._unpacked: tuple[int, list[str]] = -1, []

    @classmethod
    def of(cls, size_wh: tuple[int, int], rles: Iterable[Rle]) -> PackedRles:
        """`rles` themselves where they are packed and of this size. ValueError, with the number of the mask,
        where one has another size."""
        if isinstance(rles, cls) and rles.size_wh == size_wh:
            return rles
        packer = RlePacker(size_wh)
        for number, rle in enumerate(rles):
            packer.add(number, rle)
        return packer.packed()

    @property
    def areas(self) -> tuple[int, ...]:
        """Set pixels of each."""
        return tuple(self._areas.tolist())

    def counts(self) -> Iterator[str]:
        """The text of each, in order."""
        return map(self._counts_at, range(len(self)))

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, at: int) -> Rle: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Rle, ...]: ...
    def __getitem__(self, at: int | slice) -> Rle | tuple[Rle, ...]:
        if isinstance(at, slice):
            return tuple(self[each] for each in range(*at.indices(len(self))))
        width, height = self.size_wh
        return {"size": [height, width], "counts": self._counts_at(at)}

    def __eq__(self, other: object) -> bool:
        """Also with a tuple or a list of RLEs."""
        if not isinstance(other, PackedRles | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __repr__(self) -> str:
        return f"<{len(self)} RLEs of {self.size_wh[0]}×{self.size_wh[1]}>"

    def _counts_at(self, at: int) -> str:
        chunk, place = divmod(int(self._order[at]), CHUNK)
        number, texts = self._unpacked
        if number != chunk:
            texts = zlib.decompress(self._chunks[chunk]).decode("ascii").split(_BETWEEN)
            self._unpacked = chunk, texts  # at once: another thread sees both or neither
        return texts[place]


class RlePacker:
    """Takes masks as they are made, in any order of their positions."""

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self.size_wh = size_wh
        self._chunks: list[bytes] = []
        self._waiting: list[str] = []
        self._positions, self._areas = array("q"), array("q")

    def add(self, position: int, rle: Rle) -> None:
        """ValueError where the mask has another size."""
        width, height = self.size_wh
        if list(rle["size"]) != [height, width]:
            raise ValueError(f"rles: expected size [{height}, {width}] at {position}, got {rle['size']}")
        self._positions.append(position)
        self._areas.append(rles_of.area(rle))
        self._waiting.append(rle["counts"])
        if len(self._waiting) == CHUNK:
            self._pack()

    def packed(self) -> PackedRles:
        """All masks, by position."""
        if self._waiting:
            self._pack()
        order = np.argsort(np.asarray(self._positions, np.int64), kind="stable")
        return PackedRles(self.size_wh, self._chunks, order, np.asarray(self._areas, np.int64)[order])

    def _pack(self) -> None:
        self._chunks.append(zlib.compress(_BETWEEN.join(self._waiting).encode("ascii")))
        self._waiting = []
