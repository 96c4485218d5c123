"""The front door. `Engine.load("nano")` gives the engine of this process; remote and fake engines
obey the same interface. Calls are synchronous; `on_progress` and `cancel` reach the inner loops.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sa2va_tools.engine.regions import Region
from sa2va_tools.engine.results import (
    AnswerResult,
    CaptionResult,
    ExportResult,
    MediaRef,
    SegmentResult,
    ViewResult,
)
from sa2va_tools.progress import CancelToken, ProgressCallback, ignore_progress

if TYPE_CHECKING:
    from sa2va_tools.settings import Settings

Mode = Literal["auto", "sa2va", "sa2va-i"]
MediaSource = str | Path
"""A path, `file://` URL, or a `media:…` handle."""


class Engine(ABC):
    """Describe, segment, ground, caption and track; see each method.

    Every method raises errors of `sa2va_tools.errors` only: MediaError and AccessDeniedError for
    the media, RequestError for an argument, CheckpointError when the model cannot be loaded,
    CancelledError once `cancel` is set.
    """

    @staticmethod
    def load(model: str | Path | None = None, *, settings: Settings | None = None) -> Engine:
        """The engine of this process. `model` is `"nano"` or a checkpoint's folder; None takes
        `settings.model`. Weights are loaded at the first call that needs them."""
        from sa2va_tools.engine.local import LocalEngine

        return LocalEngine.from_settings(model, settings=settings)

    @abstractmethod
    def describe(
        self,
        media: MediaSource,
        question: str | None = None,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        key_frames: int | None = None,
        max_new_tokens: int | None = None,
        after: str | None = None,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> AnswerResult:
        """Describe the image or video, or answer a question about it, in words. Video: uniform
        key frames of the range. `after` is the `answer:` handle of an earlier describe, segment or ground
        about the same media: the question continues that conversation, about the frames that it saw."""

    @abstractmethod
    def segment(
        self,
        media: MediaSource,
        expressions: str | Sequence[str],
        *,
        mode: Mode = "auto",
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        key_frames: int | None = None,
        gate_by_object_score: bool = True,
        threshold: float = 0.5,
        smooth: bool = False,
        after: str | None = None,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> SegmentResult:
        """Masks (tracks, on video) of what each expression refers to. One trained prompt per
        expression; all objects are propagated in one pass. `after` as in `describe`: "the other one".

        A pixel is set where its probability is over `threshold` (0 … 1); `smooth` evens out ragged edges,
        fills small holes and drops specks. Both shape the masks that are returned, not what is tracked.
        `gate_by_object_score` False keeps masks whose object score says that nothing is there."""

    @abstractmethod
    def extend(
        self,
        answer: str,
        expressions: str | Sequence[str],
        *,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> SegmentResult:
        """The masks of an earlier `answer` (of segment, ground or track), and after them those of more
        expressions on the same frames, by the same mode, key frames and wishes, as one result. What is there
        is not computed again: objects are followed independently, so but for rounding the result is that of
        asking for all at once. A conversation (`after`) is not gone on with.
        """

    @abstractmethod
    def ground(
        self,
        media: MediaSource,
        question: str | None = None,
        *,
        mode: Mode = "auto",
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        key_frames: int | None = None,
        gate_by_object_score: bool = True,
        threshold: float = 0.5,
        smooth: bool = False,
        after: str | None = None,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> AnswerResult:
        """A description (or the answer to a question) whose phrases carry masks. `after` as in
        `describe`, the masks as in `segment`."""

    @abstractmethod
    def caption_region(
        self,
        media: MediaSource,
        regions: Region | Sequence[Region],
        question: str | None = None,
        *,
        frame_index: int | None = None,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> CaptionResult:
        """What is at each region of an image, or of one frame of a video (`frame_index`; None
        takes the frame where a mask handle's mask is largest, else the first)."""

    @abstractmethod
    def track(
        self,
        media: MediaSource,
        regions: Region | Sequence[Region],
        *,
        frame_index: int | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        gate_by_object_score: bool = True,
        threshold: float = 0.5,
        smooth: bool = False,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> SegmentResult:
        """Each region, given on `frame_index`, as a track over the range, both ways from it. None
        takes the frame where a mask handle's mask is largest, else the first of the range. The masks as
        in `segment`; on `frame_index` itself the region is taken as it is given, whatever the threshold."""

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
        cancel: CancelToken | None = None,
    ) -> ViewResult:
        """One picture: a frame, or a contact sheet of frames, with the masks outlined and
        numbered. `handles` are `mask:…`, `answer:…` (all its masks) or a lone `media:…`. Warnings tell of
        masks that cover none of the frames shown."""

    @abstractmethod
    def export(
        self,
        handles: str | Sequence[str],
        out_dir: str | Path,
        *,
        overlay: bool = True,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> ExportResult:
        """Write `masks.json` (COCO RLE per object and frame), mask PNGs and an overlay (H.264
        MP4, or PNG for an image) into `out_dir`. Whole files or none."""

    @abstractmethod
    def masks_json(self, handles: str | Sequence[str]) -> str:
        """The masks behind `handles` as one JSON document (format `sa2va-masks/1`): COCO RLE per
        object and frame."""

    def media_of(self, source: MediaSource, *, cancel: CancelToken | None = None) -> MediaRef:
        """The image or video at a path, or behind a `media:…`, `mask:…` or `answer:…` handle. This
        default draws a small picture to find out; an engine that can look it up does so."""
        return self.view(str(source), max_frames=1, max_side=64, cancel=cancel).media

    def frame_index_at(self, media: MediaSource, time_s: float, *, cancel: CancelToken | None = None) -> int:
        """The frame shown at `time_s`, clipped to the media. This default trusts a constant frame
        rate; an engine that holds the timestamps uses those."""
        ref = self.media_of(media, cancel=cancel)
        if ref.fps is None:
            return 0
        return min(max(int(time_s * Fraction(ref.fps) + 1e-6), 0), ref.frame_count - 1)

    def prepare(self) -> None:  # noqa: B027  an engine with nothing to prepare is fine
        """Do ahead what the first call would wait for, without taking memory for weights. For a
        thread of its own; raises nothing that the first call would not raise better."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the model."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
