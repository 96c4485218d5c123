"""A fake engine for tests of the layers above the model.

It opens the media for real, keeps its results in a real store and never loads a model: its masks are
rectangles whose place follows from the words, its answers are fixed sentences. It is deterministic
and needs no torch. It never stands in where a real engine is meant to run.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from sa2va_tools import __version__
from sa2va_tools.engine.clip import Clip, check_frame
from sa2va_tools.engine.extending import earlier_result
from sa2va_tools.engine.library import Library, Opened
from sa2va_tools.engine.pointing import region_label, region_masks
from sa2va_tools.engine.protocol import MediaSource, Mode
from sa2va_tools.engine.recording import Recorder, not_found
from sa2va_tools.engine.regions import Region
from sa2va_tools.engine.results import (
    AnswerResult,
    CaptionResult,
    MaskObject,
    Provenance,
    RegionCaption,
    SegmentResult,
)
from sa2va_tools.engine.store_backed import StoreBackedEngine
from sa2va_tools.masks import rle as rles_of
from sa2va_tools.masks.rle import Rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.media.sampling import select_frames
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.model.output import USUAL_WISHES, MaskWishes
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress
from sa2va_tools.settings import MediaLimits
from sa2va_tools.store.store import Store
from sa2va_tools.testing.shapes import ShapeAt, drifting, rectangles_around, still

ABSENT_WORD = "unicorn"
"""An expression with this word is not found."""
KEY_FRAMES = 5


class FakeEngine(StoreBackedEngine):
    """See the module. Without `store_dir` its store is a temporary folder that goes with the engine."""

    def __init__(
        self,
        store_dir: Path | None = None,
        *,
        access: AccessPolicy | None = None,
        limits: MediaLimits | None = None,
    ) -> None:
        if store_dir is None:
            store_dir = Path(tempfile.mkdtemp(prefix="sa2va-fake-"))
            self._remove_store = weakref.finalize(self, shutil.rmtree, store_dir, ignore_errors=True)
        super().__init__(Library(Store(store_dir), access or AccessPolicy(None), limits or MediaLimits()))

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
        opened, clip = self._clip(media, start_s, end_s, stride, cancel)
        recorder = self._recorder(opened, clip, "chat", key_frames, masks=False)
        width, height = opened.ref.size_wh
        text = f"This {opened.ref.kind} has {width} by {height} pixels."
        on_progress(Progress("answer", 1, text=text))
        return recorder.answer("describe", question or "Describe it.", text, text, (), ())

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
        wishes = MaskWishes(gate_by_object_score, threshold, smooth)
        opened, clip = self._clip(media, start_s, end_s, stride, cancel)
        recorder = self._recorder(opened, clip, mode if clip.is_video else "image", key_frames, wishes=wishes)
        return _drifting(recorder, expressions, on_progress, cancel)

    def extend(
        self,
        answer: str,
        expressions: str | Sequence[str],
        *,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> SegmentResult:
        before = earlier_result(self.library, answer, cancel)
        mode = before.mode if before.clip.is_video else "image"
        recorder = self._recorder(before.opened, before.clip, mode, None, wishes=before.wishes)
        return _drifting(recorder, expressions, on_progress, cancel, before.objects)

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
        wishes = MaskWishes(gate_by_object_score, threshold, smooth)
        opened, clip = self._clip(media, start_s, end_s, stride, cancel)
        recorder = self._recorder(opened, clip, mode if clip.is_video else "image", key_frames, wishes=wishes)
        text = "There is a box and another shape."
        objects = []
        for phrase in ("a box", "another shape"):
            start = text.index(phrase)
            shape_at = drifting(phrase, opened.ref.size_wh)
            span = (start, start + len(phrase))
            objects.append(_object(recorder, phrase, shape_at, on_progress, cancel, phrase_span=span))
        return recorder.answer("ground", question or "Describe it.", text, text, objects, ())

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
        opened = self.library.open(media, cancel)
        wanted = [regions] if isinstance(regions, Region) else list(regions)
        frame = self._default_frame(wanted, opened) if frame_index is None else frame_index
        check_frame(opened.media, frame)
        recorder = self._recorder(opened, Clip(opened.media, (frame,), cancel), "image", None, masks=False)
        captions = []
        for label, mask in self._pointed_at(opened, wanted, frame):
            shape = _object(recorder, label, still(mask), on_progress, cancel)
            captions.append(RegionCaption(shape, f"This region covers {rles_of.area(mask)} pixels."))
        text = "\n".join(caption.text for caption in captions)
        objects = [caption.region for caption in captions]
        answer = recorder.answer("caption", question or "Describe it.", text, text, objects, ())
        return CaptionResult(answer.handle, opened.ref, frame, tuple(captions), recorder.provenance)

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
        wishes = MaskWishes(gate_by_object_score, threshold, smooth)
        opened, clip = self._clip(media, start_s, end_s, stride, cancel)
        wanted = [regions] if isinstance(regions, Region) else list(regions)
        first = clip.frame_indices[0]
        frame = self._default_frame(wanted, opened, first) if frame_index is None else frame_index
        check_frame(opened.media, frame)
        clip = clip.including(frame, select_frames(opened.media, start_s=start_s, end_s=end_s))
        recorder = self._recorder(opened, clip, "track" if clip.is_video else "image", 1, wishes=wishes)
        pointed_at = self._pointed_at(opened, wanted, frame)
        objects = [_object(recorder, label, still(mask), on_progress, cancel) for label, mask in pointed_at]
        return _segment_result(recorder, "track", [label for label, _ in pointed_at], (), objects)

    def close(self) -> None:
        """There is no model to let go of; handles stay good as long as the engine lives."""

    def _clip(
        self,
        media: MediaSource,
        start_s: float | None,
        end_s: float | None,
        stride: int,
        cancel: CancelToken | None,
    ) -> tuple[Opened, Clip]:
        opened = self.library.open(media, cancel)
        frames = select_frames(opened.media, start_s=start_s, end_s=end_s, stride=stride)
        return opened, Clip(opened.media, frames, cancel)

    def _recorder(
        self,
        opened: Opened,
        clip: Clip,
        mode: str,
        key_frames: int | None,
        *,
        masks: bool = True,
        wishes: MaskWishes = USUAL_WISHES,
    ) -> Recorder:
        provenance = Provenance(
            checkpoint="fake",
            revision="none",
            family="fake",
            mode="sa2va" if mode == "auto" else mode,
            key_frames=clip.frame_indices[: key_frames or KEY_FRAMES],
            frames=len(clip) if masks else 0,
            size_wh=opened.ref.size_wh,
            device="cpu",
            dtype="none",
            version=__version__,
            gate_by_object_score=wishes.gate,
            threshold=wishes.threshold,
            smooth=wishes.smooth,
        )
        return Recorder(self.library.store, opened, clip, provenance)

    def _default_frame(self, regions: Sequence[Region], opened: Opened, first: int = 0) -> int:
        handles = [region.mask for region in regions if region.mask is not None]
        return self.library.mask(handles[0], opened).track.largest_frame if handles else first

    def _pointed_at(
        self, opened: Opened, regions: Sequence[Region], frame_index: int
    ) -> list[tuple[str, Rle]]:
        """Labels and masks; points and boxes become the rectangle around them."""
        masks = region_masks(
            regions,
            frame_index,
            opened.ref.size_wh,
            track_of=lambda handle: self.library.mask(handle, opened).track,
            masks_from_points=lambda prompts: rectangles_around(prompts, opened.ref.size_wh),
        )
        return [
            (
                region_label(region, number, lambda it: self.library.store.mask_label(it)),
                rles_of.encode(mask),
            )
            for number, (region, mask) in enumerate(zip(regions, masks, strict=True), start=1)
        ]


def _object(
    recorder: Recorder,
    label: str,
    shape_at: ShapeAt,
    on_progress: ProgressCallback,
    cancel: CancelToken | None,
    *,
    phrase_span: tuple[int, int] | None = None,
) -> MaskObject:
    frames = recorder.clip.frame_indices
    rles = []
    for done, frame in enumerate(frames, start=1):
        if cancel is not None:
            cancel.raise_if_cancelled()
        rles.append(shape_at(frame))
        on_progress(Progress("propagate", done, len(frames), label))
    if ABSENT_WORD in label:
        return not_found(label, "The answer points at nothing.", phrase_span)
    ones = (1.0,) * len(frames)
    track = MaskTrack(recorder.opened.ref.size_wh, frames, tuple(rles), ones, ones)
    return recorder.found(label, track, gate=True, phrase_span=phrase_span)


def _drifting(
    recorder: Recorder,
    expressions: str | Sequence[str],
    on_progress: ProgressCallback,
    cancel: CancelToken | None,
    earlier: Sequence[MaskObject] = (),
) -> SegmentResult:
    """`earlier` objects, then a shape per expression that drifts."""
    wanted = [expressions] if isinstance(expressions, str) else list(expressions)
    size_wh = recorder.opened.ref.size_wh
    made = [_object(recorder, label, drifting(label, size_wh), on_progress, cancel) for label in wanted]
    answers = tuple(f"Here is {label}." for label in wanted)
    labels = [*(item.label for item in earlier), *wanted]
    return _segment_result(recorder, "segment", labels, answers, [*earlier, *made])


def _segment_result(
    recorder: Recorder,
    kind: str,
    labels: Sequence[str],
    answers: tuple[str, ...],
    objects: Sequence[MaskObject],
) -> SegmentResult:
    text = "\n".join(answers)
    made = recorder.answer(kind, "\n".join(labels), text, text, objects, ())
    return SegmentResult(made.handle, recorder.opened.ref, made.objects, answers, recorder.provenance)
