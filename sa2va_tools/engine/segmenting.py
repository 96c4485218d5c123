"""Expressions → one result: asked, followed and kept, also where earlier objects are joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.conversation import Conversation
from sa2va_tools.engine.extending import Earlier, remembered
from sa2va_tools.engine.job import Job
from sa2va_tools.engine.key_frames import FramePlan
from sa2va_tools.engine.library import Library, Opened
from sa2va_tools.engine.objects import objects_of, said_by, segment_result
from sa2va_tools.engine.results import MaskObject, SegmentResult
from sa2va_tools.engine.starting import recorder_of
from sa2va_tools.model.prompt import segment_question


def segmented(
    job: Job,
    library: Library,
    opened: Opened,
    wanted: Sequence[str],
    plan_of: Callable[[Clip], FramePlan],
    talk: Conversation,
    said: Sequence[str],
    *,
    earlier: Earlier | None = None,
) -> SegmentResult:
    """`said` are warnings; `earlier` objects come first in the result."""
    prompts = [segment_question(expression, video=job.clip.is_video) for expression in wanted]
    answers, plan = job.answers(plan_of, prompts, talk.turns)
    tracks, plan = job.propagate_words(plan, np.concatenate([answer.seg_prompts for answer in answers]))
    recorder = recorder_of(job, library, opened, plan)
    objects: list[MaskObject] = []
    if earlier is not None:
        objects += earlier.objects
        made = recorder.provenance
        whole, frames = made.complete and earlier.complete, made.frames or len(earlier.clip)
        recorder = replace(recorder, provenance=replace(made, complete=whole, frames=frames))
    warnings = [*said, *plan.warnings, *job.warnings(answers, wanted)]
    objects += objects_of(recorder, wanted, answers, tracks, gate=job.wishes.gate)
    before = earlier.asked if earlier else ()
    labels = [*(earlier.labels if earlier else ()), *wanted]
    asked = [*before, *zip(wanted, said_by(answers), strict=True)]
    extra = {**talk.extended(prompts, answers), **remembered(plan, job.clip, objects, asked)}
    return segment_result(
        recorder,
        "segment",
        labels,
        answers,
        objects,
        warnings,
        extra,
        said_before=[text for _, text in before],
        raw_before=earlier.raw_text if earlier else "",
    )
