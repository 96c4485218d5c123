"""What was computed and may be wanted again, under one budget of bytes; least recently used goes first, into
a spare place (host memory, for a GPU) where there is one."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
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
    spare_bytes: int = 0
    """What lies in the spare place, besides."""


@dataclass(frozen=True, slots=True)
class Spare:
    """A second place, for what the first has no room for. `away` makes of an entry what lies there, `back`
    turns that into the entry again; None from either where memory lacks."""

    cache: ByteCache
    away: Callable[[Any], Any | None]
    back: Callable[[Any], Any | None]


class ByteCache:
    """Entries by kind and key. Not safe for threads: it belongs to a model, which has one user at a time."""

    def __init__(self, budget: int, spare: Spare | None = None) -> None:
        """`budget` in bytes; 0 keeps nothing here."""
        self.budget, self.spare = budget, spare
        self._entries: OrderedDict[tuple[str, Hashable], tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._counts: defaultdict[str, CacheCounts] = defaultdict(CacheCounts)

    @property
    def bytes(self) -> int:
        """What is held now, the spare place not counted."""
        return self._bytes

    @property
    def capacity(self) -> int:
        """What may be held, in both places."""
        return self.budget + (self.spare.cache.budget if self.spare else 0)

    def __contains__(self, place: tuple[str, Hashable]) -> bool:
        """Is there an entry of this kind and key? Not counted, and no use."""
        return place in self._entries or (self.spare is not None and place in self.spare.cache)

    def get(self, kind: str, key: Hashable) -> Any | None:
        """The entry, now the most recently used one; None where there is none."""
        place = (kind, key)
        if place in self._entries:
            self._entries.move_to_end(place)
            value = self._entries[place][0]
        else:
            value = self._fetched(place)
        if value is None:
            self._counts[kind].misses += 1
        else:
            self._counts[kind].hits += 1
        return value

    def missed(self, kind: str, count: int) -> None:
        """So many entries were looked for with `in`, and were made because they were not there."""
        self._counts[kind].misses += count

    def put(self, kind: str, key: Hashable, value: Any, size: int) -> None:
        """Keep `value` of `size` bytes in the place of what was there; what is larger than the whole budget
        is kept in the spare place, if at all."""
        self._drop((kind, key))
        if self.spare is not None:
            self.spare.cache._drop((kind, key))
        if size > self.budget:
            self._send_away((kind, key), value, size)
            return
        while self._bytes + size > self.budget:
            self._make_way()
        self._entries[kind, key] = (value, size)
        self._bytes += size
        counts = self._counts[kind]
        counts.entries += 1
        counts.bytes += size

    def counts(self) -> dict[str, CacheCounts]:
        """By kind, as they are now."""
        aside = self.spare.cache._counts if self.spare else {}
        return {
            kind: replace(counts, spare_bytes=aside[kind].bytes if kind in aside else 0)
            for kind, counts in self._counts.items()
        }

    def clear(self) -> None:
        """Forget everything; the counts of hits and misses stay."""
        for place in list(self._entries):
            self._drop(place)
        if self.spare is not None:
            self.spare.cache.clear()

    def forget(self, kind: str) -> None:
        """Drop all entries of that kind, wherever they lie."""
        for cache in (self, *([self.spare.cache] if self.spare else [])):
            for place in [place for place in cache._entries if place[0] == kind]:
                cache._drop(place)

    def retreat(self) -> None:
        """Hold nothing here: everything goes into the spare place, as far as there is one with room."""
        while self._entries:
            self._make_way()

    def spare_alone(self) -> ByteCache:
        """What is put there goes into the spare place at once; the counts are those of this cache."""
        made = ByteCache(0, self.spare)
        made._counts = self._counts
        return made

    def _make_way(self) -> None:
        """The least recently used entry goes."""
        place, (value, size) = next(iter(self._entries.items()))
        self._drop(place)
        self._send_away(place, value, size)

    def _send_away(self, place: tuple[str, Hashable], value: Any, size: int) -> None:
        if self.spare is None or size > self.spare.cache.budget:
            return
        away = self.spare.away(value)
        if away is not None:
            self.spare.cache.put(*place, away, size)

    def _fetched(self, place: tuple[str, Hashable]) -> Any | None:
        """From the spare place; here from now on, if it fits."""
        found = None if self.spare is None else self.spare.cache._entries.get(place)
        if found is None or self.spare is None:
            return None
        away, size = found
        value = self.spare.back(away)
        if value is not None and size <= self.budget:
            self.put(*place, value, size)
        else:
            self.spare.cache._entries.move_to_end(place)
        return value

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
