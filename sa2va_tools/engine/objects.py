"""Which mask belongs to which expression or phrase."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.engine.recording import Recorder
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.model.output import FrameMasks, ModelAnswer
from sa2va_tools.model.text.prompts import clean_answer


def name_objects(expressions: Sequence[str], answers: Sequence[ModelAnswer]) -> list[str]:
    """A label for each `[SEG]`: the expression, numbered if its answer has several."""
    labels = []
    for expression, answer in zip(expressions, answers, strict=True):
        count = len(answer.seg_prompts)
        labels += [expression] if count == 1 else [f"{expression} #{n}" for n in range(1, count + 1)]
    return labels


def segment_objects(
    recorder: Recorder,
    expressions: Sequence[str],
    answers: Sequence[ModelAnswer],
    tracks: Sequence[MaskTrack],
) -> list[MaskObject]:
    """Record the tracks of each expression's answer, or why it has none."""
    objects: list[MaskObject] = []
    named = iter(zip(name_objects(expressions, answers), tracks, strict=True))
    for expression, answer in zip(expressions, answers, strict=True):
        if not len(answer.seg_prompts):
            text = clean_answer(answer.text).text
            reason = f"The model answered without a mask: “{text}”"
            objects.append(MaskObject.missing(expression, recorder.opened.ref.size_wh, reason))
        for _ in answer.seg_prompts:
            label, track = next(named)
            objects.append(recorder.record_object(label, track))
    return objects


def ground_objects(
    recorder: Recorder,
    answer: ModelAnswer,
    tracks: Sequence[MaskTrack],
) -> list[MaskObject]:
    """Record one object per [SEG], labelled with the phrase that it belongs to."""
    clean = clean_answer(answer.text)
    spans = clean.phrase_spans[: len(tracks)]
    return [
        recorder.record_object(clean.text[slice(*span)] if span else f"object {number}", track, span)
        for number, (span, track) in enumerate(zip(spans, tracks, strict=True), start=1)
    ]


def stream_frames(
    clip: Clip, frames: Generator[FrameMasks, None, list[MaskTrack]], labels: Sequence[str]
) -> Generator[FrameResult, None, list[MaskTrack]]:
    """The model's frames as the caller's, in source frame numbers; returns the tracks."""
    while True:
        try:
            frame = next(frames)
        except StopIteration as end:
            tracks: list[MaskTrack] = end.value
            return tracks
        index = clip.frame_indices[frame.position]
        times = clip.times_s([index])
        yield FrameResult(
            index=index,
            time_s=times[0] if times else None,
            labels=tuple(labels),
            masks=frame.masks,
            scores=np.asarray(frame.object_scores * frame.mask_scores, np.float32),
        )
