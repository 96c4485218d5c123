"""A range of one image or video, as the model's source of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.checks import is_whole_number, show_value
from sa2va_tools.engine.options import FrameRange
from sa2va_tools.errors import MediaUnreadableError, RequestError
from sa2va_tools.media.decode import iter_frames, read_frames
from sa2va_tools.media.media import Media
from sa2va_tools.media.sampling import select_frames
from sa2va_tools.run import Run
from sa2va_tools.wording import argument


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of `media` by position 0 … n-1; `frame_indices` are the source's own numbers."""

    media: Media
    frame_indices: tuple[int, ...]
    run: Run

    @classmethod
    def select(cls, media: Media, span: FrameRange, run: Run) -> Clip:
        """The frames in a range. RequestError if there are none."""
        frames = select_frames(media, start_s=span.start_s, end_s=span.end_s, stride=span.stride)
        return cls(media, frames, run)

    def __len__(self) -> int:
        return len(self.frame_indices)

    @property
    def is_video(self) -> bool:
        return self.media.kind == "video"

    def times_s(self, frame_indices: Sequence[int]) -> tuple[float, ...]:
        """Seconds of source frames; empty for an image."""
        stamps = self.media.timestamps_s
        return tuple(stamps[index] for index in frame_indices) if self.is_video else ()

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Streamed; `positions` strictly increasing. Ends early where decoding breaks off, which opening the
        media need not have noticed."""
        wanted = [self.frame_indices[position] for position in positions]
        with suppress(MediaUnreadableError):
            for _, picture in iter_frames(self.media, wanted, run=self.run):
                yield picture

    def trim_to_readable(self) -> Clip:
        """The beginning of the clip up to where decoding breaks off. Decodes all of it."""
        count = sum(1 for _ in self.frames(range(len(self))))
        return replace(self, frame_indices=self.frame_indices[:count])

    def read_pictures(self, positions: Sequence[int]) -> list[NDArray[np.uint8]]:
        """A few frames at once. Raises MediaUnreadableError."""
        wanted = [self.frame_indices[position] for position in positions]
        return read_frames(self.media, wanted, run=self.run)

    def cache_key(self, position: int) -> tuple[str, int]:
        """By content: another name of the same bytes has the same keys."""
        return frame_cache_key(self.media, self.frame_indices[position])

    def include(self, frame_index: int, whole_range: Sequence[int]) -> Clip:
        """The clip with one more source frame, which the stride may have skipped. RequestError for a frame
        outside `whole_range`, the frames of the range without a stride."""
        if not whole_range[0] <= frame_index <= whole_range[-1]:
            raise RequestError(
                f"Frame {frame_index} is outside the selected range (frames {whole_range[0]} to "
                f"{whole_range[-1]}).",
                hint=f"Choose a frame between {argument('start_s')} and {argument('end_s')}, or widen the "
                "range.",
            )
        return replace(self, frame_indices=tuple(sorted({*self.frame_indices, frame_index})))

    def source_frames(self, positions: Sequence[int]) -> tuple[int, ...]:
        """Source frame numbers of positions."""
        return tuple(self.frame_indices[position] for position in positions)

    def find_positions(self, frame_indices: Sequence[int]) -> tuple[int, ...]:
        """Positions of those source frames that the clip contains."""
        position_of = {frame: position for position, frame in enumerate(self.frame_indices)}
        return tuple(position_of[frame] for frame in frame_indices if frame in position_of)


def frame_cache_key(media: Media, frame_index: int) -> tuple[str, int]:
    """The key under which a model caches the frame."""
    return media.content_hash, frame_index


def check_frame(media: Media, frame_index: int) -> None:
    """RequestError if the media has no such frame."""
    if not is_whole_number(frame_index) or not 0 <= frame_index < media.frame_count:
        raise RequestError(
            f"Frame {show_value(frame_index)} does not exist: {media.name} has {media.frame_count} frame(s).",
            hint=f"Use a frame index from 0 to {media.frame_count - 1}.",
        )
