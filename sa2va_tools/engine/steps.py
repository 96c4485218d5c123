"""Steps that several calls share: the frames of a call, and masks from words."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.conversation import Conversation
from sa2va_tools.engine.frame_plan import FramePlan, plan_description, plan_masks
from sa2va_tools.engine.job import Job
from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.objects import name_objects, segment_objects, stream_frames
from sa2va_tools.engine.options import DescribeOptions, SegmentOptions
from sa2va_tools.engine.previous_result import PreviousResult, make_extension
from sa2va_tools.engine.recording import as_segment_result
from sa2va_tools.engine.requests import Expressions
from sa2va_tools.engine.results import SegmentResult
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.text.prompts import clean_answer, segment_question


def segment_words(
    job: Job,
    planner: Planner | ExtensionPlanner,
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
    warnings = [*expressions.warnings, *plan_warnings(job), *job.warnings(answers, expressions.texts)]
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
        extension=make_extension(require_plan(job), job.clip, objects, pairs),
    )
    return as_segment_result(result, tuple(text for _, text in pairs))


@dataclass(frozen=True, slots=True)
class Planner:
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
class ExtensionPlanner:
    """The frames of the result that is extended."""

    config: Sa2vaConfig
    previous: PreviousResult

    def plan(self, clip: Clip) -> FramePlan:
        return self.previous.plan(self.config, clip)


def require_plan(job: Job) -> FramePlan:
    """The frames of a job that has been asked."""
    assert job.plan is not None  # the job has been asked
    return job.plan


def plan_warnings(job: Job) -> tuple[str, ...]:
    """What the choice of frames means for the caller."""
    return require_plan(job).warnings
