"""The mask of one object, and what results say about the image or video that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.checks import check_whole_number
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle
from sa2va_tools.masks.suspects import Suspect, find_suspects
from sa2va_tools.masks.track import MaskTrack

if TYPE_CHECKING:
    from sa2va_tools.store.records import MaskRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRef:
    """What a result says about its image or video."""

    handle: str
    kind: str
    """`image` or `video`."""
    size_wh: tuple[int, int]
    frame_count: int
    fps: str | None
    """A fraction such as `30000/1001`; None for an image."""
    duration_s: float | None
    name: str
    """File name, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskObject:
    """One thing that was asked for or mentioned: its mask, or why there is none."""

    label: str
    """The expression, phrase or region that it answers."""
    size_wh: tuple[int, int]
    """Of the media, in pixels."""
    reason: str = ""
    """Why it was not found; empty if it was."""
    handle: str | None = None
    """`mask:…`; None if there is no mask."""
    track: MaskTrack | None = None
    """The mask of each frame; None if there is no mask."""
    score: float = 0.0
    """Mean of object probability × mean probability inside the mask over visible frames, 0 … 1."""
    phrase_span: tuple[int, int] | None = None
    """Characters of `AnswerResult.text` to which this mask belongs (grounded conversation)."""
    suspects: tuple[Suspect, ...] = ()
    """Source frames where the mask jumps in area, is lost, or fills the frame, with these reasons."""
    duplicate_of: str | None = None
    """The handle of an earlier object of the same result that is the same thing: the masks of both are nearly
    equal in all frames."""
    times_s: tuple[float, ...] = ()
    """Seconds of each covered frame of `track` by the source's timestamps; empty for an image."""

    @classmethod
    def missing(
        cls, label: str, size_wh: tuple[int, int], reason: str, span: tuple[int, int] | None = None
    ) -> MaskObject:
        """Something that was not found."""
        return cls(label=label, size_wh=size_wh, reason=reason, phrase_span=span)

    @classmethod
    def from_record(cls, handle: str, record: MaskRecord, times_s: tuple[float, ...] = ()) -> MaskObject:
        """A stored mask."""
        track = record.track
        return cls(
            label=record.label,
            size_wh=track.size_wh,
            handle=handle,
            track=track,
            score=record.score,
            suspects=find_suspects(track),
            times_s=times_s,
        )

    def keep_frame(self, frame_index: int) -> MaskObject:
        """Only the mask on this frame, which is certain: what was described of a region given as a track. The
        object itself if it has no mask there."""
        if self.track is None or not self.track.covers(frame_index):
            return self
        mask = self.track.at(frame_index)
        track = MaskTrack(self.size_wh, (frame_index,), (mask,), (1.0,), (1.0,))
        times_s = self.times_s[self.frame_indices.index(frame_index) :][:1]
        return replace(self, track=track, score=1.0, times_s=times_s, suspects=find_suspects(track))

    @property
    def found(self) -> bool:
        return self.track is not None

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Source frames that were searched for it; empty if it was not found."""
        return () if self.track is None else self.track.frame_indices

    @property
    def suspect_frames(self) -> tuple[int, ...]:
        """The source frames of `suspects`."""
        return tuple(suspect.frame_index for suspect in self.suspects)

    def mask(self, frame_index: int | None = None) -> NDArray[np.bool_]:
        """The mask (height, width) on a source frame, all False if the object was not found. `frame_index`
        may be left out for an image. RequestError for a frame that was not searched."""
        if frame_index is not None:
            check_whole_number("frame_index", frame_index)
        if self.track is None:
            width, height = self.size_wh
            return np.zeros((height, width), np.bool_)
        return self.track.mask(self._choose_frame(frame_index))

    def box_xyxy(self, frame_index: int | None = None) -> tuple[float, float, float, float] | None:
        """The bounding box on a source frame in pixels, right and lower edges exclusive; None if the mask is
        empty there. `frame_index` as in `mask`."""
        if frame_index is not None:
            check_whole_number("frame_index", frame_index)
        if self.track is None:
            return None
        return rle.bounding_box_xyxy(self.track.at(self._choose_frame(frame_index)))

    def _choose_frame(self, frame_index: int | None) -> int:
        if frame_index is not None:
            return frame_index
        if len(self.frame_indices) == 1:
            return self.frame_indices[0]
        raise RequestError(
            f"{self.label!r} has masks on {len(self.frame_indices)} frames; say which frame you want.",
            hint=f"Give a frame index from {self.frame_indices[0]} to {self.frame_indices[-1]}.",
        )
