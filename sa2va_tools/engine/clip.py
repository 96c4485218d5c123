"""A range of one image or video, as the model's source of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.errors import MediaUnreadableError, RequestError
from sa2va_tools.media.decode import iter_frames, read_frames
from sa2va_tools.media.media import Media
from sa2va_tools.progress import CancelToken


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of `media` by position 0 … n-1; `frame_indices` are the source's own numbers."""

    media: Media
    frame_indices: tuple[int, ...]
    cancel: CancelToken | None = None

    def __len__(self) -> int:
        return len(self.frame_indices)

    @property
    def is_video(self) -> bool:
        return self.media.kind == "video"

    def times_of(self, frame_indices: Sequence[int]) -> tuple[float, ...]:
        """Seconds of source frames; empty for an image."""
        stamps = self.media.timestamps_s
        return tuple(stamps[index] for index in frame_indices) if self.is_video else ()

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Streamed; `positions` strictly increasing. Ends early where the media's decoding breaks off, which
        opening it need not have met."""
        wanted = [self.frame_indices[position] for position in positions]
        with suppress(MediaUnreadableError):
            for _, picture in iter_frames(self.media, wanted, cancel=self.cancel):
                yield picture

    def readable(self) -> Clip:
        """Its beginning, up to where decoding breaks off, if it does. Reads all of it."""
        count = sum(1 for _ in self.frames(range(len(self))))
        return replace(self, frame_indices=self.frame_indices[:count])

    def pictures(self, positions: Sequence[int]) -> list[NDArray[np.uint8]]:
        """A few frames at once."""
        wanted = [self.frame_indices[position] for position in positions]
        return read_frames(self.media, wanted, cancel=self.cancel)

    def key_of(self, position: int) -> tuple[str, int]:
        """By content: another name of the same bytes has the same keys."""
        return frame_key(self.media, self.frame_indices[position])

    def including(self, frame_index: int, whole: Sequence[int]) -> Clip:
        """With that source frame among the others, where a stride passed it over; `whole` are all frames of
        the range. RequestError for a frame outside of it."""
        if not whole[0] <= frame_index <= whole[-1]:
            raise RequestError(
                f"Frame {frame_index} is outside the range to be tracked (frames {whole[0]} to {whole[-1]}).",
                hint="Point at a frame inside start_s … end_s, or widen the range.",
            )
        return replace(self, frame_indices=tuple(sorted({*self.frame_indices, frame_index})))

    def sources(self, positions: Sequence[int]) -> tuple[int, ...]:
        """Source frame numbers of positions."""
        return tuple(self.frame_indices[position] for position in positions)


def frame_key(media: Media, frame_index: int) -> tuple[str, int]:
    """Under which a model remembers the frame."""
    return media.content_hash, frame_index


def check_frame(media: Media, frame_index: int) -> None:
    """Raises RequestError for a frame that the media has not got."""
    if not 0 <= frame_index < media.frame_count:
        raise RequestError(
            f"Frame {frame_index} is out of range: {media.name} has {media.frame_count} frame(s).",
            hint=f"Use a frame index from 0 to {media.frame_count - 1}.",
        )
