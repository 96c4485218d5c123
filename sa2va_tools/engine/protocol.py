"""The interface of every engine. Calls are synchronous; a `Run` carries progress and cancelling.

`load_engine("nano")` gives the engine of this process; `AsyncEngine` wraps any engine for asyncio. The public
methods check their arguments in one place, so that all engines refuse the same things; what an engine
implements are the methods with an underscore.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self, Unpack

from sa2va_tools.checks import as_plain, start_run
from sa2va_tools.engine.kept_results import KeptResults
from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.mask_object import MediaRef
from sa2va_tools.engine.options import (
    DescribeFields,
    DescribeOptions,
    SegmentFields,
    SegmentOptions,
    TrackFields,
    TrackOptions,
    merge_options,
)
from sa2va_tools.engine.regions import Region, RegionLike, as_regions
from sa2va_tools.engine.requests import Expressions, check_expressions, check_text
from sa2va_tools.engine.results import AnswerResult, CaptionResult, SegmentResult, ViewResult
from sa2va_tools.engine.streaming import SegmentStream
from sa2va_tools.run import Run

MediaSource = Any
"""A path, `file://` URL, handle (`media:`, `mask:` or `answer:`), NumPy array (H, W, 3) or (T, H, W, 3)
uint8, PIL image, list or iterator of frames, or the bytes of a file. TypeError for anything else."""


@dataclass(frozen=True, slots=True)
class MediaInput:
    """What was given as media, and the frame rate if that is frames in memory."""

    source: MediaSource
    fps: float | None = None


class Engine(KeptResults):
    """Describe, segment, ground, caption and track; see each method. `KeptResults` has the methods for stored
    results.

    Options are given as one value or as keyword arguments: `segment(clip, "the dog", end_s=5)` is
    `segment(clip, "the dog", SegmentOptions(end_s=5))`. `fps` tells the frame rate of frames in memory.

    Besides TypeError for arguments of a wrong type, every method raises errors of `sa2va_tools.errors` only:
    MediaError and AccessDeniedError for the media, RequestError for an argument, CheckpointError if the model
    cannot be loaded, OutOfMemoryError, and CancelledError once the run is cancelled.
    """

    # ---- calls --------------------------------------------------------------------------------

    def describe(
        self,
        media: MediaSource,
        question: str | None = None,
        options: DescribeOptions | None = None,
        *,
        fps: float | None = None,
        run: Run | None = None,
        **changes: Unpack[DescribeFields],
    ) -> AnswerResult:
        """Describe an image or video, or answer a question about it, in words. Of a video, the model sees
        frames spread over the range."""
        options = merge_options(DescribeOptions, options, changes)
        return self._describe(MediaInput(media, fps), _check_question(question), options, start_run(run))

    def segment(
        self,
        media: MediaSource,
        expressions: str | Sequence[str],
        options: SegmentOptions | None = None,
        *,
        fps: float | None = None,
        run: Run | None = None,
        **changes: Unpack[SegmentFields],
    ) -> SegmentResult:
        """Masks (tracks, on video) of the objects that each expression refers to. Each expression is a prompt
        of its own; all objects are tracked in one pass."""
        options = merge_options(SegmentOptions, options, changes)
        return self._segment(MediaInput(media, fps), check_expressions(expressions), options, start_run(run))

    def stream(
        self,
        media: MediaSource,
        expressions: str | Sequence[str],
        options: SegmentOptions | None = None,
        *,
        fps: float | None = None,
        run: Run | None = None,
        **changes: Unpack[SegmentFields],
    ) -> SegmentStream:
        """As `segment`, but frames come with their masks as soon as they are made: first the frames on which
        masks begin, then the others. After the last one, `stream.result` is the result of `segment`. Closing
        the stream (or leaving it as a context manager) stops the work."""
        options = merge_options(SegmentOptions, options, changes)
        checked = check_expressions(expressions)
        return SegmentStream(self._stream(MediaInput(media, fps), checked, options, start_run(run)))

    def extend(
        self, answer: str, expressions: str | Sequence[str], *, run: Run | None = None
    ) -> SegmentResult:
        """The masks of an earlier `answer` (of segment, ground or track), followed by those of more
        expressions on the same frames, with the same options, as one result. Existing masks are not computed
        again: objects are tracked independently, so the result equals that of asking for everything at once,
        up to rounding. A conversation (`after`) is not continued."""
        return self._extend(answer, check_expressions(expressions), start_run(run))

    def ground(
        self,
        media: MediaSource,
        question: str | None = None,
        options: SegmentOptions | None = None,
        *,
        fps: float | None = None,
        run: Run | None = None,
        **changes: Unpack[SegmentFields],
    ) -> AnswerResult:
        """A description, or the answer to a question, whose phrases have masks."""
        options = merge_options(SegmentOptions, options, changes)
        return self._ground(MediaInput(media, fps), _check_question(question), options, start_run(run))

    def caption_region(
        self,
        media: MediaSource,
        regions: RegionLike | Sequence[RegionLike],
        question: str | None = None,
        *,
        frame_index: int | None = None,
        fps: float | None = None,
        run: Run | None = None,
    ) -> CaptionResult:
        """What is at each region of an image, or of one frame of a video (`frame_index`; None takes the frame
        where a mask handle's mask is largest, or the first). A region is a `Region`, a dictionary of its
        fields, a box (x0, y0, x1, y1) or a `mask:` handle."""
        checked = as_regions(regions)
        given = MediaInput(media, fps)
        frame_index = as_plain(frame_index)
        return self._caption_region(given, checked, _check_question(question), frame_index, start_run(run))

    def track(
        self,
        media: MediaSource,
        regions: RegionLike | Sequence[RegionLike],
        options: TrackOptions | None = None,
        *,
        fps: float | None = None,
        run: Run | None = None,
        **changes: Unpack[TrackFields],
    ) -> SegmentResult:
        """Each region, given on `frame_index`, as a track over the range, forwards and backwards. On
        `frame_index` itself the mask is the region as it was given. Regions as in `caption_region`."""
        options = merge_options(TrackOptions, options, changes)
        return self._track(MediaInput(media, fps), as_regions(regions), options, start_run(run))

    # ---- looking and saving ---------------------------------------------------------------------

    @abstractmethod
    def view(
        self,
        handles: str | Sequence[str],
        *,
        media: MediaSource | None = None,
        frame_index: int | None = None,
        max_frames: int = 9,
        max_side: int = 1280,
        max_bytes: int = 300_000,
        crop: bool = False,
        keep: bool = False,
        run: Run | None = None,
    ) -> ViewResult:
        """One picture: a frame, or a contact sheet of frames, with the masks outlined and numbered. `handles`
        are `mask:…`, `answer:…` (all its masks) or a single `media:…` or path. With `crop`, only the masks
        and their surroundings are shown, enlarged. With `keep`, the picture is also written into the store,
        which keeps the newest ones (`ViewResult.path`). Needs no model."""

    @abstractmethod
    def export(
        self,
        handles: str | Sequence[str],
        out_dir: str | PathLike[str],
        *,
        formats: str | Sequence[str] | None = None,
        run: Run | None = None,
    ) -> dict[str, str]:
        """Write files as `SegmentResult.save` does, for masks and answers by their handles. Returns kind →
        path. Needs no model."""

    @abstractmethod
    def masks_json(self, handles: str | Sequence[str], *, run: Run | None = None) -> str:
        """The masks behind `handles` as one JSON document (format `sa2va-masks/1`): COCO RLE per object and
        frame. Needs no model."""

    @abstractmethod
    def find_media(self, source: MediaSource, *, run: Run | None = None) -> MediaRef:
        """The image or video that `source` is, or that a `mask:…` or `answer:…` handle belongs to."""

    @abstractmethod
    def find_frame(self, media: MediaSource, time_s: float, *, run: Run | None = None) -> int:
        """The source frame shown at `time_s`. RequestError outside the video."""

    # ---- life -----------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Do in advance what the first call would wait for, without taking memory for weights. Meant for a
        background thread; raises nothing that the first call would not raise better."""

    @abstractmethod
    def close(self) -> None:
        """Release the model."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what an engine implements, with checked arguments ---------------------------------------

    @abstractmethod
    def _describe(
        self, media: MediaInput, question: str | None, options: DescribeOptions, run: Run
    ) -> AnswerResult: ...

    def _segment(
        self, media: MediaInput, expressions: Expressions, options: SegmentOptions, run: Run
    ) -> SegmentResult:
        return SegmentStream(self._stream(media, expressions, options, run)).wait()

    @abstractmethod
    def _stream(
        self, media: MediaInput, expressions: Expressions, options: SegmentOptions, run: Run
    ) -> Generator[FrameResult, None, SegmentResult]: ...

    @abstractmethod
    def _extend(self, answer: str, expressions: Expressions, run: Run) -> SegmentResult: ...

    @abstractmethod
    def _ground(
        self, media: MediaInput, question: str | None, options: SegmentOptions, run: Run
    ) -> AnswerResult: ...

    @abstractmethod
    def _caption_region(
        self,
        media: MediaInput,
        regions: Sequence[Region],
        question: str | None,
        frame_index: int | None,
        run: Run,
    ) -> CaptionResult: ...

    @abstractmethod
    def _track(
        self, media: MediaInput, regions: Sequence[Region], options: TrackOptions, run: Run
    ) -> SegmentResult: ...


def _check_question(question: str | None) -> str | None:
    return None if question is None else check_text(question, "question")
