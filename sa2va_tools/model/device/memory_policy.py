"""What is done when memory runs short, in one place: drop the cache, then use smaller batches, then refuse.

None of these steps changes a result. The refusal itself, with its numbers, is raised by whoever runs the job.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

import torch

from sa2va_tools.memory_errors import is_memory_error
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.run import RunStats

T = TypeVar("T")
BatchKind = Literal["frames", "objects", "answers"]
CACHE_DROPPED = "cached features were dropped"
_FALLBACKS: dict[BatchKind, str] = {
    "frames": "frames were encoded in smaller batches",
    "objects": "objects were tracked in smaller batches",
    "answers": "answers were generated in smaller batches",
}


@dataclass(slots=True)
class BatchSizes:
    """How much is worked on at once."""

    frames: int = 1
    """Frames that go through the image encoder together."""
    objects: int = 16
    """Objects that are tracked together."""
    answers: int = 32
    """Answers that are generated together."""


class MemoryPolicy:
    """For one run over one model. Smaller batches last until the end of the run."""

    def __init__(self, cache: ByteCache, sizes: BatchSizes, stats: RunStats) -> None:
        self.cache = cache
        self.sizes = replace(sizes)
        self.stats = stats
        self.may_cache = True
        """False once the cache was dropped: refilling it would only exhaust the memory again."""

    def retry(self, work: Callable[[], T]) -> T:
        """The result of `work`, which is called again after dropping the cache if memory ran short."""
        for result in _attempt(work):
            return result
        self.drop_cache()
        return work()

    def in_batches(self, kind: BatchKind, total: int, work: Callable[[slice], T]) -> list[T]:
        """The results of `work` for consecutive slices of 0 … `total`.

        When memory runs short, the cache is dropped and the slice is tried again; after that the batch size
        of this kind is halved. The library's error is raised when a single item does not fit.
        """
        results: list[T] = []
        start = 0
        while start < total:
            size = min(getattr(self.sizes, kind), total - start)
            part = slice(start, start + size)
            found = _attempt(partial(work, part))
            if not found and not self.drop_cache():
                if size == 1:
                    found = [work(part)]
                else:
                    setattr(self.sizes, kind, size // 2)
                    self.stats.add_fallback(_FALLBACKS[kind])
            if found:
                results += found
                start = part.stop
        return results

    def drop_cache(self) -> bool:
        """Free what is cached on the device, and what torch holds unused. False if nothing was cached."""
        had_entries = self.cache.bytes > 0
        self.may_cache = False
        if had_entries:
            self.cache.clear()
            self.stats.add_fallback(CACHE_DROPPED)
        release_device_memory()
        return had_entries


def release_device_memory() -> None:
    """Return what torch holds on a GPU without using it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _attempt(work: Callable[[], T]) -> list[T]:
    """The result of `work`; empty if memory ran short, and then the tensors of the attempt are freed."""
    try:
        return [work()]
    except Exception as error:
        if not is_memory_error(error):
            raise
        traceback.clear_frames(error.__traceback__)
    return []
