"""The engine of this process: opens media, asks the model, stores masks. Each method is one call.

Knows what the calls mean; how pictures are decoded, prompts worded, objects tracked and results stored is
written elsewhere. The model is loaded by the first call that needs it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.conversation import Conversation, load_conversation
from sa2va_tools.engine.frame_plan import FramePlan, plan_description, plan_masks
from sa2va_tools.engine.job import Job, open_job
from sa2va_tools.engine.library import Library
from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.engine.model_host import ModelHost
from sa2va_tools.engine.objects import ground_objects, name_objects, segment_objects, stream_frames
from sa2va_tools.engine.options import DescribeOptions, SegmentOptions, TrackOptions
from sa2va_tools.engine.previous_result import PreviousResult, load_previous_result, make_extension
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
from sa2va_tools.engine.store_backed import StoreBackedEngine
from sa2va_tools.engine.tracks import run_to_end
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.media.decode import read_frames
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.text.prompts import chat_question, clean_answer, segment_question
from sa2va_tools.run import Run
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
        conversation = load_conversation(self.library, options.after, opened)
        text = describe_question(question, video=clip.is_video)
        prompt = chat_question(text)
        limit = options.max_new_tokens
        with open_job(self.host, self.library, opened, clip, run, max_new_tokens=limit) as job:
            planner = _Planner(job.model.runtime.config, options, conversation)
            (answer,) = job.ask(planner, [prompt], conversation)
            recorder = job.recorder()
            warnings = [*_plan_warnings(job), *job.warnings([answer], [question or ""])]
        return recorder.record_answer(
            "describe",
            text,
            clean_answer(answer.text).text,
            answer.text,
            warnings=warnings,
            turns=conversation.extend([prompt], [answer]),
        )

    # ---- masks from words -----------------------------------------------------------------------

    def _stream(
        self, media: MediaInput, expressions: Expressions, options: SegmentOptions, run: Run
    ) -> Generator[FrameResult, None, SegmentResult]:
        opened, clip = self._open_clip(media, options, run)
        conversation = load_conversation(self.library, options.after, opened)
        with open_job(self.host, self.library, opened, clip, run, options=options) as job:
            planner = _Planner(job.model.runtime.config, options, conversation)
            return (yield from _segment_words(job, planner, expressions, conversation))

    def _extend(self, answer: str, expressions: Expressions, run: Run) -> SegmentResult:
        run.report("open", message="reading the media")
        previous = load_previous_result(self.library, answer, run)
        new = previous.select_new(expressions)
        with open_job(
            self.host, self.library, previous.opened, previous.clip, run, options=previous.options
        ) as job:
            planner = _ExtensionPlanner(job.model.runtime.config, previous)
            differences = previous.warn_about_differences(job.model.runtime.revision)
            new = Expressions(new.texts, (*new.warnings, *differences))
            return run_to_end(_segment_words(job, planner, new, Conversation(), previous))

    def _ground(
        self, media: MediaInput, question: str | None, options: SegmentOptions, run: Run
    ) -> AnswerResult:
        opened, clip = self._open_clip(media, options, run)
        conversation = load_conversation(self.library, options.after, opened)
        text = ground_question(question, video=clip.is_video)
        prompt = chat_question(text)
        with open_job(self.host, self.library, opened, clip, run, options=options) as job:
            planner = _Planner(job.model.runtime.config, options, conversation)
            (answer,) = job.ask(planner, [prompt], conversation)
            tracks = run_to_end(job.track_words(answer.seg_prompts))
            recorder = job.recorder()
            warnings = [*_plan_warnings(job), *job.warnings([answer], [question or ""])]
            plan = _require_plan(job)
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
        with open_job(self.host, self.library, opened, clip, run) as job:
            picture = read_frames(opened.media, [frame], run=run)[0]
            masks = marked.make_masks(lambda prompts: job.segment_points(frame, picture, prompts))
            answers = job.caption(picture, masks, text)
            recorder = job.recorder()
            warnings = [*marked.warnings, *job.warnings([answer for answer, _ in answers], [question or ""])]
        captions = [
            RegionCaption(_record_region(recorder, region, label, mask), clean_answer(answer.text).text)
            for region, label, mask, (answer, _) in zip(regions, marked.labels, masks, answers, strict=True)
        ]
        raw_text = "\n".join(answer.text for answer, _ in answers)
        return recorder.record_captions(text, captions, raw_text, [*warnings, *warn_about_regions(answers)])

    def _track(
        self, media: MediaInput, regions: Sequence[Region], options: TrackOptions, run: Run
    ) -> SegmentResult:
        opened, clip, frame = self._open_tracked_clip(media, regions, options, run)
        marked = self._check_regions(regions, opened, frame, run)
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


# ---- shared steps ---------------------------------------------------------------------------------


def _segment_words(
    job: Job,
    planner: _Planner | _ExtensionPlanner,
    expressions: Expressions,
    conversation: Conversation,
    previous: PreviousResult | None = None,
) -> Generator[FrameResult, None, SegmentResult]:
    """Ask for each expression, track all objects, and store the result, after `previous` objects if any."""
    prompts = [segment_question(text, video=job.clip.is_video) for text in expressions.texts]
    answers = job.ask(planner, prompts, conversation)
    labels = name_objects(expressions.texts, answers)
    with closing(job.track_words(np.concatenate([answer.seg_prompts for answer in answers]))) as frames:
        tracks = yield from stream_frames(job.clip, frames, labels)
    recorder = job.recorder()
    if previous is not None:
        recorder = replace(recorder, provenance=previous.merge_provenance(recorder.provenance))
    objects = segment_objects(recorder, expressions.texts, answers, tracks)
    warnings = [*expressions.warnings, *_plan_warnings(job), *job.warnings(answers, expressions.texts)]
    texts = [clean_answer(answer.text).text for answer in answers]
    pairs = list(zip(expressions.texts, texts, strict=True))
    labels_asked = list(expressions.texts)
    raw = [answer.text for answer in answers]
    if previous is not None:
        objects = [*previous.objects, *objects]
        pairs = [*previous.answers, *pairs]
        labels_asked = [*previous.labels, *labels_asked]
        raw = [*([previous.raw_text] if previous.raw_text else []), *raw]
    result = recorder.record_answer(
        "segment",
        "\n".join(labels_asked),
        "\n".join(text for _, text in pairs),
        "\n".join(raw),
        objects,
        warnings,
        turns=conversation.extend(prompts, answers),
        extension=make_extension(_require_plan(job), job.clip, objects, pairs),
    )
    return as_segment_result(result, tuple(text for _, text in pairs))


@dataclass(frozen=True, slots=True)
class _Planner:
    """The frames of a new call, which a conversation may fix."""

    config: Sa2vaConfig
    options: DescribeOptions | SegmentOptions
    conversation: Conversation

    def plan(self, clip: Clip) -> FramePlan:
        if isinstance(self.options, SegmentOptions):
            plan = plan_masks(self.config, clip, self.options)
        else:
            plan = plan_description(self.config, clip, self.options)
        return self.conversation.apply_to(plan, clip)


@dataclass(frozen=True, slots=True)
class _ExtensionPlanner:
    """The frames of the result that is extended."""

    config: Sa2vaConfig
    previous: PreviousResult

    def plan(self, clip: Clip) -> FramePlan:
        return self.previous.plan(self.config, clip)


def _record_region(recorder: Recorder, region: Region, label: str, mask: NDArray[np.bool_]) -> MaskObject:
    """A region on the clip's only frame; one that was given as a mask keeps its handle."""
    clip = recorder.clip
    track = MaskTrack(clip.media.size_wh, clip.frame_indices, (rle.encode(mask),), (1.0,), (1.0,))
    recorded = recorder.record_object(label, track)
    return recorded if region.mask is None else replace(recorded, handle=region.mask)


def _require_plan(job: Job) -> FramePlan:
    assert job.plan is not None  # the job has been asked
    return job.plan


def _plan_warnings(job: Job) -> tuple[str, ...]:
    return _require_plan(job).warnings
