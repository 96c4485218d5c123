"""Answers and tracks → objects of a result: which mask belongs to which expression or phrase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sa2va_tools.engine.recording import Recorder, not_found
from sa2va_tools.engine.results import MaskObject, SegmentResult
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.model.output import ModelAnswer
from sa2va_tools.model.prompt import clean_answer


def objects_of(
    recorder: Recorder,
    expressions: Sequence[str],
    answers: Sequence[ModelAnswer],
    tracks: Sequence[MaskTrack],
    *,
    gate: bool,
) -> list[MaskObject]:
    """The tracks of each expression's answer, numbered where it has several; or why it has none."""
    objects: list[MaskObject] = []
    rest = iter(tracks)
    for expression, answer in zip(expressions, answers, strict=True):
        count = len(answer.seg_prompts)
        if not count:
            said = clean_answer(answer.text).text
            objects.append(
                not_found(expression, f"The model answered without pointing at anything: “{said}”")
            )
        for number in range(1, count + 1):
            label = expression if count == 1 else f"{expression} #{number}"
            objects.append(recorder.found(label, next(rest), gate=gate))
    return objects


def phrases_of(
    recorder: Recorder, answer: ModelAnswer, tracks: Sequence[MaskTrack], *, gate: bool
) -> list[MaskObject]:
    """One object per [SEG], labelled by the phrase that it belongs to."""
    clean = clean_answer(answer.text)
    spans = clean.phrase_spans[: len(tracks)]
    return [
        recorder.found(
            clean.text[slice(*span)] if span else f"object {number}", track, gate=gate, phrase_span=span
        )
        for number, (span, track) in enumerate(zip(spans, tracks, strict=True), start=1)
    ]


def segment_result(
    recorder: Recorder,
    kind: str,
    labels: Sequence[str],
    answers: Sequence[ModelAnswer],
    objects: Sequence[MaskObject],
    warnings: Sequence[str],
    extra: Mapping[str, Any] | None = None,
    *,
    said_before: Sequence[str] = (),
    raw_before: str = "",
) -> SegmentResult:
    """`said_before`, and raw: answers of the result that is extended by these."""
    said = (*said_before, *said_by(answers))
    raw = "\n".join([*([raw_before] if raw_before else []), *(answer.text for answer in answers)])
    result = recorder.answer(kind, "\n".join(labels), "\n".join(said), raw, objects, warnings, extra)
    return SegmentResult(
        result.handle, recorder.opened.ref, result.objects, said, recorder.provenance, result.warnings
    )


def said_by(answers: Sequence[ModelAnswer]) -> tuple[str, ...]:
    """What people read of each answer."""
    return tuple(clean_answer(answer.text).text for answer in answers)
