"""Computed values that may be needed again, under one budget of bytes. The least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor


@dataclass(slots=True)
class CacheCounts:
    """Counts of one kind of entry since the cache was created."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0


class ByteCache:
    """Entries by kind and key; under the key None, which stands for unknown content, nothing is stored. Not
    safe for threads: it belongs to a model, which has one user at a time."""

    def __init__(self, budget: int) -> None:
        """`budget` in bytes; 0 stores nothing."""
        self.budget = budget
        self._entries: OrderedDict[tuple[str, Hashable], tuple[Any, int]] = OrderedDict()
        self.bytes = 0
        """The size of all entries."""
        self._counts: defaultdict[str, CacheCounts] = defaultdict(CacheCounts)

    def __contains__(self, item: tuple[str, Hashable]) -> bool:
        """Whether there is an entry of this kind and key. Changes neither counts nor order."""
        return item in self._entries

    def get(self, kind: str, key: Hashable) -> Any | None:
        """The entry, which becomes the most recently used one; None if there is none."""
        if key is None:
            return None
        entry = self._entries.get((kind, key))
        if entry is None:
            self._counts[kind].misses += 1
            return None
        self._entries.move_to_end((kind, key))
        self._counts[kind].hits += 1
        return entry[0]

    def count_misses(self, kind: str, count: int) -> None:
        """Count entries that were looked up with `in` and computed because they were missing."""
        self._counts[kind].misses += count

    def put(self, kind: str, key: Hashable, value: Any, size: int) -> None:
        """Store `value` of `size` bytes under this key, unless it is larger than the whole budget."""
        self._remove((kind, key))
        if key is None or size > self.budget:
            return
        while self.bytes + size > self.budget:
            self._remove(next(iter(self._entries)))
        self._entries[kind, key] = (value, size)
        self.bytes += size
        counts = self._counts[kind]
        counts.entries += 1
        counts.bytes += size

    def counts(self) -> dict[str, CacheCounts]:
        """Counts by kind."""
        return dict(self._counts)

    def clear(self) -> None:
        """Remove all entries; the counts of hits and misses stay."""
        for item in list(self._entries):
            self._remove(item)

    def _remove(self, item: tuple[str, Hashable]) -> None:
        entry = self._entries.pop(item, None)
        if entry is not None:
            self.bytes -= entry[1]
            counts = self._counts[item[0]]
            counts.entries -= 1
            counts.bytes -= entry[1]


def count_tensor_bytes(value: Any) -> int:
    """The size of all tensors in a tensor, dataclass, tuple or list."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if is_dataclass(value):
        return sum(count_tensor_bytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, tuple | list):
        return sum(count_tensor_bytes(each) for each in value)
    return 0
