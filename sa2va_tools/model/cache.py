"""What was computed and may be wanted again, under one budget of bytes; least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(slots=True)
class CacheCounts:
    """Of one kind of entry, since the cache was made."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0


class ByteCache:
    """Entries by kind and key. Not safe for threads: it belongs to a model, which has one user at a time."""

    def __init__(self, budget: int) -> None:
        """`budget` in bytes; 0 keeps nothing."""
        self.budget = budget
        self._entries: OrderedDict[tuple[str, Hashable], tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._counts: defaultdict[str, CacheCounts] = defaultdict(CacheCounts)

    @property
    def bytes(self) -> int:
        """What is held now."""
        return self._bytes

    def __contains__(self, place: tuple[str, Hashable]) -> bool:
        """Is there an entry of this kind and key? Not counted, and no use."""
        return place in self._entries

    def get(self, kind: str, key: Hashable) -> Any | None:
        """The entry, now the most recently used one; None where there is none."""
        found = self._entries.get((kind, key))
        if found is None:
            self._counts[kind].misses += 1
            return None
        self._entries.move_to_end((kind, key))
        self._counts[kind].hits += 1
        return found[0]

    def put(self, kind: str, key: Hashable, value: Any, size: int) -> None:
        """Keep `value` of `size` bytes in the place of what was there; what is larger than the whole budget
        is not kept."""
        self._drop((kind, key))
        if size > self.budget:
            return
        while self._bytes + size > self.budget:
            self._drop(next(iter(self._entries)))
        self._entries[kind, key] = (value, size)
        self._bytes += size
        counts = self._counts[kind]
        counts.entries += 1
        counts.bytes += size

    def counts(self) -> dict[str, CacheCounts]:
        """By kind, as they are now."""
        return {kind: replace(counts) for kind, counts in self._counts.items()}

    def clear(self) -> None:
        """Forget everything; the counts of hits and misses stay."""
        for place in list(self._entries):
            self._drop(place)

    def _drop(self, place: tuple[str, Hashable]) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self._bytes -= entry[1]
            counts = self._counts[place[0]]
            counts.entries -= 1
            counts.bytes -= entry[1]


def tensor_bytes(value: Any) -> int:
    """Of all tensors in a tensor, a dataclass, a tuple or a list."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if is_dataclass(value):
        return sum(tensor_bytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, tuple | list):
        return sum(tensor_bytes(each) for each in value)
    return 0
