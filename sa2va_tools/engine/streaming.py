"""Masks frame by frame while they are made, and the whole result afterwards."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Self

from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.results import SegmentResult
from sa2va_tools.errors import RequestError


class SegmentStream(Iterator[FrameResult]):
    """An iterator of `FrameResult`; `result` is there once it is exhausted.

    The model works for this stream alone until it is exhausted or closed, also while the consumer is busy.
    """

    def __init__(self, frames: Generator[FrameResult, None, SegmentResult]) -> None:
        self._frames = frames
        self._result: SegmentResult | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FrameResult:
        try:
            return next(self._frames)
        except StopIteration as end:
            if end.value is not None:
                self._result = end.value
            raise StopIteration from None

    @property
    def result(self) -> SegmentResult:
        """What `segment` returns. RequestError before the last frame was read."""
        if self._result is None:
            raise RequestError(
                "The stream has not finished, so there is no result yet.",
                hint="Read all frames first, or call `wait()`.",
            )
        return self._result

    def wait(self) -> SegmentResult:
        """Read the remaining frames and return the result."""
        for _ in self:
            pass
        return self.result

    def close(self) -> None:
        """Stop the work; nothing is stored."""
        self._frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
