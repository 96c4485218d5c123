"""The engine of this process: media in, model asked, masks kept. Each method is one story.

Knows what the calls mean; how pictures are decoded, prompts worded, masks propagated and results
stored is said elsewhere. The model is loaded by the first call that needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.engine import questions
from sa2va_tools.engine.clip import Clip, check_frame
from sa2va_tools.engine.conversation import Conversation, conversation
from sa2va_tools.engine.extending import earlier_result, remembered
from sa2va_tools.engine.job import Job
from sa2va_tools.engine.key_frames import FramePlan, plan_chat, plan_grounding
from sa2va_tools.engine.library import Library, Opened
from sa2va_tools.engine.model_host import ModelHost
from sa2va_tools.engine.objects import phrases_of, segment_result
from sa2va_tools.engine.pointing import checked_regions, region_label, region_masks
from sa2va_tools.engine.protocol import MediaSource, Mode
from sa2va_tools.engine.recording import Recorder
from sa2va_tools.engine.regions import Region
from sa2va_tools.engine.results import (
    AnswerResult,
    CaptionResult,
    MaskObject,
    RegionCaption,
    SegmentResult,
)
from sa2va_tools.engine.segmenting import segmented
from sa2va_tools.engine.starting import recorder_of, started
from sa2va_tools.engine.store_backed import StoreBackedEngine
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.media.decode import read_frames
from sa2va_tools.media.sampling import select_frames
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.model.output import USUAL_WISHES, MaskWishes
from sa2va_tools.model.prompt import chat_question, clean_answer
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress
from sa2va_tools.settings import Settings
from sa2va_tools.store.store import Store


class LocalEngine(StoreBackedEngine):
    """See `Engine`. Any thread may call; the model serves one call at a time."""

    def __init__(self, library: Library, host: ModelHost) -> None:
        super().__init__(library)
        self.host = host

    @classmethod
    def from_settings(
        cls,
        model: str | Path | None = None,
        *,
        settings: Settings | None = None,
        access: AccessPolicy | None = None,
    ) -> LocalEngine:
        """`access` None reads anything, as a person's own program may."""
        settings = settings or Settings.read()
        library = Library(Store(settings.store_dir), access or AccessPolicy(None), settings.limits)
        return cls(library, ModelHost(settings.model if model is None else model, settings))

    def prepare(self) -> None:
        self.host.prepare()

    def close(self) -> None:
        self.host.close()

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
        opened, clip = self._clip(media, start_s, end_s, stride, on_progress, cancel)
        talk = conversation(self.library, after, opened)
        asked = questions.describe_question(question, video=clip.is_video)
        prompt = chat_question(asked)
        with self._job(opened, clip, on_progress, cancel, max_new_tokens) as job:
            config = job.runtime.config
            (answer,), plan = job.answers(
                lambda clip: talk.plan(plan_chat(config, clip, key_frames), clip), [prompt], talk.turns
            )
            recorder = self._recorder(job, opened, plan)
            warnings = [*plan.warnings, *job.warnings([answer], [question or ""])]
        text = clean_answer(answer.text).text
        extra = talk.extended([prompt], [answer])
        return recorder.answer("describe", asked, text, answer.text, (), warnings, extra)

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
        wanted = questions.checked_expressions(expressions)
        wishes = MaskWishes(gate_by_object_score, threshold, smooth)
        opened, clip = self._clip(media, start_s, end_s, stride, on_progress, cancel)
        talk = conversation(self.library, after, opened)
        with self._job(opened, clip, on_progress, cancel, wishes=wishes) as job:
            config = job.runtime.config
            return segmented(
                job,
                self.library,
                opened,
                wanted,
                lambda clip: talk.plan(plan_grounding(config, clip, mode, key_frames), clip),
                talk,
                questions.said_once(expressions, wanted),
            )

    def extend(
        self,
        answer: str,
        expressions: str | Sequence[str],
        *,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> SegmentResult:
        wanted = questions.checked_expressions(expressions)
        on_progress(Progress("open", 0, None, "reading the media"))
        before = earlier_result(self.library, answer, cancel)
        wanted, known = before.lacking(wanted)
        with self._job(before.opened, before.clip, on_progress, cancel, wishes=before.wishes) as job:
            said = [
                *questions.said_once(expressions, [*wanted, *known]),
                *before.doubts(job.runtime.revision),
            ]
            said += [f'"{label}" is there already; it was not asked for again.' for label in known]
            config = job.runtime.config
            return segmented(
                job,
                self.library,
                before.opened,
                wanted,
                lambda clip: replace(before, clip=clip).plan(config),
                Conversation(),
                said,
                earlier=before,
            )

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
        opened, clip = self._clip(media, start_s, end_s, stride, on_progress, cancel)
        talk = conversation(self.library, after, opened)
        asked = questions.ground_question(question, video=clip.is_video)
        prompt = chat_question(asked)
        with self._job(opened, clip, on_progress, cancel, wishes=wishes) as job:
            config = job.runtime.config
            (answer,), plan = job.answers(
                lambda clip: talk.plan(plan_grounding(config, clip, mode, key_frames), clip),
                [prompt],
                talk.turns,
            )
            tracks, plan = job.propagate_words(plan, answer.seg_prompts)
            recorder = self._recorder(job, opened, plan)
            warnings = [*plan.warnings, *job.warnings([answer], [question or ""])]
        objects = phrases_of(recorder, answer, tracks, gate=wishes.gate)
        text = clean_answer(answer.text).text
        extra = {**talk.extended([prompt], [answer]), **remembered(plan, clip, objects)}
        return recorder.answer("ground", asked, text, answer.text, objects, warnings, extra)

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
        wanted = checked_regions(regions)
        asked = questions.caption_question(question)
        opened = self._open(media, on_progress, cancel)
        frame = self._frame_of(wanted, opened, frame_index, cancel)
        clip = Clip(opened.media, (frame,), cancel)
        with self._job(opened, clip, on_progress, cancel) as job:
            picture = read_frames(opened.media, [frame], cancel=cancel)[0]
            masks = self._masks_of(job, wanted, opened, frame, picture)
            answers = job.caption(picture, masks, asked)
            recorder = self._recorder(job, opened, FramePlan("image", (0,), ()))
            warnings = job.warnings([answer for answer, _ in answers], [question or ""])
        warnings += questions.said_of_regions(answers)
        captions = tuple(
            RegionCaption(self._region_object(recorder, region, number, mask), clean_answer(answer.text).text)
            for number, (region, mask, (answer, _)) in enumerate(
                zip(wanted, masks, answers, strict=True), start=1
            )
        )
        result = recorder.answer(
            "caption",
            asked,
            "\n".join(caption.text for caption in captions),
            "\n".join(answer.text for answer, _ in answers),
            [caption.region for caption in captions],
            warnings,
        )
        return CaptionResult(result.handle, opened.ref, frame, captions, recorder.provenance, result.warnings)

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
        wanted = checked_regions(regions)
        opened, clip = self._clip(media, start_s, end_s, stride, on_progress, cancel)
        frame = self._frame_of(wanted, opened, frame_index, cancel, clip.frame_indices)
        clip = clip.including(frame, select_frames(opened.media, start_s=start_s, end_s=end_s))
        with self._job(opened, clip, on_progress, cancel, wishes=wishes) as job:
            picture = read_frames(opened.media, [frame], cancel=cancel)[0]
            masks = self._masks_of(job, wanted, opened, frame, picture)
            position = clip.frame_indices.index(frame)
            tracks = job.propagate_masks(np.stack(masks), position)
            lost = [number for number, (_, seen) in enumerate(tracks, start=1) if not seen]
            mode = "track" if clip.is_video else "image"
            recorder = self._recorder(job, opened, FramePlan(mode, (position,), ()))
            warnings = [*job.warnings(), *questions.said_of_small(lost, video=clip.is_video)]
        labels = [
            region_label(region, number, self._label_of) for number, region in enumerate(wanted, start=1)
        ]
        objects = [
            recorder.found(label, track, gate=wishes.gate)
            for label, (track, _) in zip(labels, tracks, strict=True)
        ]
        return segment_result(recorder, "track", labels, (), objects, warnings)

    # ---- shared steps -------------------------------------------------------------------------

    def _open(self, media: MediaSource, on_progress: ProgressCallback, cancel: CancelToken | None) -> Opened:
        on_progress(Progress("open", 0, None, "reading the media"))
        return self.library.open(media, cancel)

    def _clip(
        self,
        media: MediaSource,
        start_s: float | None,
        end_s: float | None,
        stride: int,
        on_progress: ProgressCallback,
        cancel: CancelToken | None,
    ) -> tuple[Opened, Clip]:
        opened = self._open(media, on_progress, cancel)
        frames = select_frames(opened.media, start_s=start_s, end_s=end_s, stride=stride)
        return opened, Clip(opened.media, frames, cancel)

    def _job(
        self,
        opened: Opened,
        clip: Clip,
        on_progress: ProgressCallback,
        cancel: CancelToken | None,
        max_new_tokens: int | None = None,
        wishes: MaskWishes = USUAL_WISHES,
    ) -> AbstractContextManager[Job]:
        return started(
            self.host,
            self.library,
            opened,
            clip,
            on_progress,
            cancel,
            max_new_tokens=max_new_tokens,
            wishes=wishes,
        )

    def _recorder(self, job: Job, opened: Opened, plan: FramePlan) -> Recorder:
        return recorder_of(job, self.library, opened, plan)

    def _masks_of(
        self,
        job: Job,
        regions: Sequence[Region],
        opened: Opened,
        frame_index: int,
        picture: NDArray[np.uint8],
    ) -> list[NDArray[np.bool_]]:
        return region_masks(
            regions,
            frame_index,
            opened.media.size_wh,
            track_of=lambda handle: self.library.mask(handle, opened, job.cancel).track,
            masks_from_points=lambda prompts: job.masks_from_points(frame_index, picture, prompts),
        )

    def _frame_of(
        self,
        regions: Sequence[Region],
        opened: Opened,
        frame_index: int | None,
        cancel: CancelToken | None,
        among: Sequence[int] | None = None,
    ) -> int:
        """The asked frame; else the one (`among` these) where the first mask handle's mask is largest;
        else the first."""
        if frame_index is not None:
            check_frame(opened.media, frame_index)
            return frame_index
        handles = [region.mask for region in regions if region.mask is not None]
        if not handles:
            return among[0] if among else 0
        track = self.library.mask(handles[0], opened, cancel).track
        inside = [frame for frame in among or () if track.covers(frame)]
        return max(inside, key=track.area) if inside else track.largest_frame

    def _region_object(
        self, recorder: Recorder, region: Region, number: int, mask: NDArray[np.bool_]
    ) -> MaskObject:
        label = region_label(region, number, self._label_of)
        clip = recorder.clip
        track = MaskTrack(clip.media.size_wh, clip.frame_indices, (rle.encode(mask),), (1.0,), (1.0,))
        made = recorder.found(label, track, gate=False)
        return replace(made, handle=region.mask) if region.mask is not None else made

    def _label_of(self, handle: str) -> str:
        return self.library.store.mask_label(handle)
