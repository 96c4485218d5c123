"""The engine of this process: opens media, asks the model, stores masks. Each method is one call.

Knows what the calls mean; how pictures are decoded, prompts worded, objects tracked and results stored is
written elsewhere. The model is loaded by the first call that needs it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.engine.calls import Call, Calls
from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.conversation import Conversation, load_conversation
from sa2va_tools.engine.job import open_job
from sa2va_tools.engine.library import Library
from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.engine.model_host import ModelHost
from sa2va_tools.engine.objects import ground_objects
from sa2va_tools.engine.options import DescribeOptions, SegmentOptions, TrackOptions
from sa2va_tools.engine.previous_result import load_previous_result, make_extension
from sa2va_tools.engine.protocol import MediaInput
from sa2va_tools.engine.recording import Recorder, as_segment_result
from sa2va_tools.engine.regions import Region
from sa2va_tools.engine.requests import (
    Expressions,
    caption_question,
    describe_question,
    ground_question,
    warn_about_regions,
    warn_about_small_regions,
)
from sa2va_tools.engine.results import AnswerResult, CaptionResult, RegionCaption, SegmentResult
from sa2va_tools.engine.steps import ExtensionPlanner, Planner, plan_warnings, require_plan, segment_words
from sa2va_tools.engine.store_backed import StoreBackedEngine
from sa2va_tools.engine.tracks import run_to_end
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.media.decode import read_frames
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.model.text.prompts import chat_question, clean_answer
from sa2va_tools.run import Run
from sa2va_tools.settings import Settings
from sa2va_tools.store.store import Store


class LocalEngine(StoreBackedEngine):
    """See `Engine`. Any thread may call. The model serves one call at a time, in the order in which they
    came; everything that can be checked or looked up without the model is done before a call waits."""

    def __init__(self, library: Library, host: ModelHost) -> None:
        super().__init__(library)
        self.host = host
        self.calls = Calls(library, host.lane, host.describe, reuse=host.settings.reuse_results)

    @classmethod
    def from_settings(
        cls,
        model: str | Path | None = None,
        *,
        settings: Settings | None = None,
        access: AccessPolicy | None = None,
    ) -> Self:
        """`access` None reads anything, as a person's own program may."""
        settings = settings or Settings.read()
        library = Library(Store(settings.store_dir), access or AccessPolicy(None), settings.limits)
        return cls(library, ModelHost(settings.model if model is None else model, settings))

    def prepare(self) -> None:
        self.host.prepare()

    def close(self) -> None:
        self.host.close()

    # ---- words --------------------------------------------------------------------------------

    def _describe(
        self, media: MediaInput, question: str | None, options: DescribeOptions, run: Run
    ) -> AnswerResult:
        opened, clip = self._open_clip(media, options, run)
        conversation = load_conversation(self.library, options.after, opened, clip)
        text = describe_question(question, video=clip.is_video)
        prompt = chat_question(text)
        limit = options.max_new_tokens or self.host.settings.max_new_tokens

        def compute() -> AnswerResult:
            with open_job(self.host, self.library, opened, clip, run, max_new_tokens=limit) as job:
                planner = Planner(job.model.runtime.config, options, conversation)
                (answer,) = job.ask(planner, [prompt], conversation)
                recorder = job.recorder()
                warnings = [*plan_warnings(job), *job.warnings([answer], [question or ""])]
            return recorder.record_answer(
                "describe",
                text,
                clean_answer(answer.text).text,
                answer.text,
                warnings=warnings,
                turns=conversation.extend([prompt], [answer]),
            )

        asked = {**asdict(options), "question": question, "max_new_tokens": limit}
        call = Call.of("describe", opened, clip, asked)
        return self.calls.answer(call, compute)

    # ---- masks from words -----------------------------------------------------------------------

    def _start_segment(
        self, media: MediaInput, expressions: Expressions, options: SegmentOptions, run: Run
    ) -> tuple[Call, Generator[FrameResult, None, SegmentResult]]:
        opened, clip = self._open_clip(media, options, run)
        conversation = load_conversation(self.library, options.after, opened, clip)

        def work() -> Generator[FrameResult, None, SegmentResult]:
            with open_job(self.host, self.library, opened, clip, run, options=options) as job:
                planner = Planner(job.model.runtime.config, options, conversation)
                return (yield from segment_words(job, planner, expressions, conversation))

        limit = self.host.settings.max_new_tokens
        asked = {**asdict(options), **asdict(expressions), "max_new_tokens": limit}
        return Call.of("segment", opened, clip, asked), work()

    def _extend(self, answer: str, expressions: Expressions, run: Run) -> SegmentResult:
        run.report("open", message="reading the media")
        previous = load_previous_result(self.library, answer, run)
        new = previous.select_new(expressions)
        opened, clip, options = previous.opened, previous.clip, previous.options

        def compute() -> SegmentResult:
            with open_job(self.host, self.library, opened, clip, run, options=options) as job:
                planner = ExtensionPlanner(job.model.runtime.config, previous)
                differences = previous.warn_about_differences(job.model.runtime.revision)
                warned = Expressions(new.texts, (*new.warnings, *differences))
                return run_to_end(segment_words(job, planner, warned, Conversation(), previous))

        limit = self.host.settings.max_new_tokens
        asked = {**asdict(new), "answer": answer, "max_new_tokens": limit}
        call = Call.of("extend", opened, clip, asked)
        return self.calls.answer(call, compute)

    def _ground(
        self, media: MediaInput, question: str | None, options: SegmentOptions, run: Run
    ) -> AnswerResult:
        opened, clip = self._open_clip(media, options, run)
        conversation = load_conversation(self.library, options.after, opened, clip)
        text = ground_question(question, video=clip.is_video)
        prompt = chat_question(text)

        def compute() -> AnswerResult:
            with open_job(self.host, self.library, opened, clip, run, options=options) as job:
                planner = Planner(job.model.runtime.config, options, conversation)
                (answer,) = job.ask(planner, [prompt], conversation)
                tracks = run_to_end(job.track_words(answer.seg_prompts))
                recorder = job.recorder()
                warnings = [*plan_warnings(job), *job.warnings([answer], [question or ""])]
                plan = require_plan(job)
            objects = ground_objects(recorder, answer, tracks)
            return recorder.record_answer(
                "ground",
                text,
                clean_answer(answer.text).text,
                answer.text,
                objects,
                warnings,
                turns=conversation.extend([prompt], [answer]),
                extension=make_extension(plan, clip, objects),
            )

        limit = self.host.settings.max_new_tokens
        asked = {**asdict(options), "question": question, "max_new_tokens": limit}
        call = Call.of("ground", opened, clip, asked)
        return self.calls.answer(call, compute)

    # ---- regions --------------------------------------------------------------------------------

    def _caption_region(
        self,
        media: MediaInput,
        regions: Sequence[Region],
        question: str | None,
        frame_index: int | None,
        run: Run,
    ) -> CaptionResult:
        text = caption_question(question)
        opened = self._open(media, run)
        frame = self._choose_frame(regions, opened, frame_index, run)
        marked = self._check_regions(regions, opened, frame, run)
        clip = Clip(opened.media, (frame,), run)

        def compute() -> CaptionResult:
            with open_job(self.host, self.library, opened, clip, run) as job:
                picture = read_frames(opened.media, [frame], run=run)[0]
                masks = marked.make_masks(lambda prompts: job.segment_points(frame, picture, prompts))
                answers = job.caption(picture, masks, text)
                recorder = job.recorder()
                warnings = [
                    *marked.warnings,
                    *job.warnings([answer for answer, _ in answers], [question or ""]),
                ]
            captions = [
                RegionCaption(_record_region(recorder, region, label, mask), clean_answer(answer.text).text)
                for region, label, mask, (answer, _) in zip(
                    regions, marked.labels, masks, answers, strict=True
                )
            ]
            raw_text = "\n".join(answer.text for answer, _ in answers)
            warnings += warn_about_regions(answers)
            return recorder.record_captions(text, captions, raw_text, warnings)

        limit = self.host.settings.max_new_tokens
        pointed = _describe_regions(regions)
        asked = {"regions": pointed, "question": question, "max_new_tokens": limit}
        return self.calls.answer(Call.of("caption", opened, clip, asked), compute)

    def _track(
        self, media: MediaInput, regions: Sequence[Region], options: TrackOptions, run: Run
    ) -> SegmentResult:
        opened, clip, frame = self._open_tracked_clip(media, regions, options, run)
        marked = self._check_regions(regions, opened, frame, run)

        def compute() -> SegmentResult:
            with open_job(self.host, self.library, opened, clip, run, options=options) as job:
                picture = read_frames(opened.media, [frame], run=run)[0]
                masks = marked.make_masks(lambda prompts: job.segment_points(frame, picture, prompts))
                position = clip.frame_indices.index(frame)
                tracks = run_to_end(job.track_masks(np.stack(masks), position))
                recorder = job.recorder()
                small = [number for number, (_, visible) in enumerate(tracks, start=1) if not visible]
                warnings = [
                    *marked.warnings,
                    *job.warnings(),
                    *warn_about_small_regions(small, video=clip.is_video),
                ]
            objects = [
                recorder.record_object(label, track)
                for label, (track, _) in zip(marked.labels, tracks, strict=True)
            ]
            answer = recorder.record_answer("track", "\n".join(marked.labels), "", "", objects, warnings)
            return as_segment_result(answer)

        asked = {**asdict(options), "regions": _describe_regions(regions), "frame_index": frame}
        return self.calls.answer(Call.of("track", opened, clip, asked), compute)


def _record_region(recorder: Recorder, region: Region, label: str, mask: NDArray[np.bool_]) -> MaskObject:
    """A region on the clip's only frame; one that was given as a mask keeps its handle."""
    clip = recorder.clip
    track = MaskTrack(clip.media.size_wh, clip.frame_indices, (rle.encode(mask),), (1.0,), (1.0,))
    recorded = recorder.record_object(label, track)
    return recorded if region.mask is None else replace(recorded, handle=region.mask)


def _describe_regions(regions: Sequence[Region]) -> list[dict[str, Any]]:
    """As JSON values."""
    return [region.model_dump(mode="json") for region in regions]
