"""The parts of the exam: each ability with its exercise, and how the answer to one case is marked."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sa2va_tools.evaluation.caption_metrics import compare_masks
from sa2va_tools.evaluation.metrics import Mask, measure_overlap, phrase_f1
from sa2va_tools.evaluation.video_metrics import score_track
from sa2va_tools.media.sampling import first_positions, uniform_positions
from sa2va_tools.model.output import PointPrompt
from sa2va_tools.model.text.prompts import SEG, clean_answer
from sa2va_tools.nano.exam.cases import CLIP_FRAMES, LONG_FRAMES, Case, Examiner, Exercise

ALL_QUESTIONS = "questions, all kinds"
_FIRST_FRAMES = 3
_SPREAD_FRAMES = 5

Values = dict[tuple[str, str], list[Any]]
"""(ability, metric) → one raw value per case, of which the metric is computed."""
Marks = Iterator[tuple[str, str, Any]]
"""(ability, metric, raw value)"""


@dataclass(frozen=True, slots=True)
class Part:
    """An ability's name, what is asked, and how an answer is marked."""

    name: str
    exercise: Exercise
    mark: Callable[[Examiner, str, Case], Marks]

    def mark_all(self, examiner: Examiner, cases: Iterable[Case]) -> Values:
        """The raw values of all cases."""
        values: Values = defaultdict(list)
        for case in cases:
            for ability, metric, value in self.mark(examiner, self.name, case):
                values[ability, metric].append(value)
        return dict(values)


def _mark_image_reference(examiner: Examiner, ability: str, case: Case) -> Marks:
    """One expression for one object."""
    answer = examiner.answer(case)
    mask = examiner.segment_first_frame(case, answer.seg_prompts, minimum=1)[0]
    overlap = measure_overlap(mask, case.clip.mask_hw(case.turn.segments[0]))
    for metric in ("cIoU", "gIoU", "Pr@0.5"):
        yield ability, metric, overlap
    yield f"{ability}: {case.turn.kind}", "gIoU", overlap
    yield "false refusals, image", "share", float(SEG not in answer.text)


def _mark_video_references(examiner: Examiner, ability: str, case: Case) -> Marks:
    """All expressions of a clip are tracked together, each by the first `[SEG]` of its answer."""
    prompts = [examiner.answer(case, turn).seg_prompts[:1] for turn in case.turns]
    tracks = iter(examiner.track(case, np.concatenate(prompts)))
    for turn, prompt in zip(case.turns, prompts, strict=True):
        track = next(tracks) if len(prompt) else np.zeros(case.clip.ids_thw.shape, bool)
        score = score_track(track, case.clip.masks_thw(turn.segments[0]))
        yield ability, "J", score.j
        yield ability, "F", score.f
        yield ability, "J&F", score.j_and_f
        yield f"{ability}: {turn.kind}", "J&F", score.j_and_f
        yield "false refusals, video", "share", float(not len(prompt))


def _mark_modes(examiner: Examiner, ability: str, case: Case) -> Marks:
    """The same expression with prompts on several frames, in both modes."""
    target = case.clip.masks_thw(case.turn.segments[0])
    prompts = examiner.answer(case).seg_prompts[:1]
    for mode, positions in (
        ("sa2va", first_positions(len(target), _FIRST_FRAMES)),
        ("sa2va-i", uniform_positions(len(target), _SPREAD_FRAMES)),
    ):
        track = np.zeros_like(target)
        if len(prompts):
            track = examiner.track(case, prompts, mode=mode, positions=positions)[0]
        yield f"{ability} {mode}, {len(positions)} key frames", "J&F", score_track(track, target).j_and_f


def _mark_several(examiner: Examiner, ability: str, case: Case) -> Marks:
    """An expression for several objects; masks are matched one to one and missing ones count 0. Superfluous
    ones show in the number of masks."""
    answer = examiner.answer(case)
    masks = examiner.segment_first_frame(case, answer.seg_prompts)
    yield ability, "mIoU, missed count 0", compare_masks(masks, _target_masks(case))
    yield ability, "right number", float(len(answer.seg_prompts) == len(case.turn.segments))


def _mark_refusal(examiner: Examiner, ability: str, case: Case) -> Marks:
    """An expression for an absent object."""
    refused = float(SEG not in examiner.answer(case).text)
    yield ability, "share", refused
    yield f"{ability}: {case.turn.kind}", "share", refused


def _mark_grounded_caption(examiner: Examiner, ability: str, case: Case) -> Marks:
    """Phrases as a multiset, masks on the first frame, and for each object the mask of its own phrase."""
    answer = examiner.answer(case)
    clean = clean_answer(answer.text)
    phrases = [clean.text[slice(*span)] if span else "" for span in clean.phrase_spans]
    masks = examiner.segment_first_frame(case, answer.seg_prompts)
    compared = compare_masks(masks, _target_masks(case))
    expected = re.findall(r"<p>(.*?)</p>", case.turn.answer)
    yield ability, "object F1", phrase_f1(phrases, expected)
    yield ability, "AP50", compared
    yield ability, "mIoU", compared
    unmatched = list(enumerate(phrases))
    for phrase, index in zip(expected, case.turn.segments, strict=True):
        match = next((item for item in unmatched if item[1] == phrase), None)
        if match is None:
            yield ability, "mask gIoU", 0.0
        else:
            unmatched.remove(match)
            yield ability, "mask gIoU", measure_overlap(masks[match[0]], case.clip.mask_hw(index)).iou


def _mark_box_and_point(examiner: Examiner, ability: str, case: Case) -> Marks:
    """The box of an object, and the point inside it that is farthest from its edge."""
    target = case.clip.mask_hw(case.turn.segments[0])
    prompts = [PointPrompt(_box_corners(target), (2, 3)), PointPrompt((_innermost_point(target),), (1,))]
    for name, mask in zip(("box", "point"), examiner.segment_points(case, prompts), strict=True):
        yield f"{ability} {name}, image", "gIoU", measure_overlap(mask, target)


def _mark_given_mask(examiner: Examiner, ability: str, case: Case) -> Marks:
    """The true mask on the middle frame, tracked in both directions."""
    target = case.clip.masks_thw(case.turn.mentions[0][1])
    middle = len(target) // 2
    track = examiner.track_mask(case, target[middle], middle)
    yield ability, "J&F", score_track(track, target).j_and_f


def _target_masks(case: Case) -> Mask:
    """(objects, S, S) of the answer's objects, on the first frame."""
    return np.stack([case.clip.mask_hw(index) for index in case.turn.segments])


def _box_corners(mask: Mask) -> tuple[tuple[float, float], ...]:
    """Top left and bottom right of the mask's box, as fractions of the picture."""
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    height, width = mask.shape
    bottom_right = ((columns[-1] + 1) / width, (rows[-1] + 1) / height)
    return (columns[0] / width, rows[0] / height), bottom_right


def _innermost_point(mask: Mask) -> tuple[float, float]:
    """The point of the mask that is farthest from its edge, as fractions of the picture."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return (float(column) + 0.5) / mask.shape[1], (float(row) + 0.5) / mask.shape[0]


def _mark_description(examiner: Examiner, ability: str, case: Case) -> Marks:
    """The whole text, and its objects as a multiset."""
    answer = clean_answer(examiner.answer(case).text).text
    yield ability, "exact", float(answer == case.turn.answer)
    yield ability, "object F1", phrase_f1(_list_objects(answer), _list_objects(case.turn.answer))


def _mark_answer(examiner: Examiner, ability: str, case: Case) -> Marks:
    """Right word for word."""
    yield ability, "exact", float(clean_answer(examiner.answer(case).text).text == case.turn.answer)


def _mark_question(examiner: Examiner, ability: str, case: Case) -> Marks:
    """As `_mark_answer`, and the same value again for all questions together."""
    for _, metric, exact in _mark_answer(examiner, ability, case):
        yield ability, metric, exact
        yield ALL_QUESTIONS, metric, exact


def _list_objects(text: str) -> list[str]:
    """The objects of `There is a red circle, a blue square and a green star.`"""
    return re.split(r", | and ", text.removeprefix("There is ").removesuffix("."))


def _question(kind: str, task: str, *, video: bool = False) -> Part:
    """A question of the task "attribute" is of one kind only."""
    exercise = Exercise(task, CLIP_FRAMES if video else 1, kind if task == "attribute" else None)
    return Part(f"question: {kind}, {'video' if video else 'image'}", exercise, _mark_question)


def _image_and_video(name: str, task: str, mark: Callable[[Examiner, str, Case], Marks]) -> Sequence[Part]:
    exercises = {"image": Exercise(task), "video": Exercise(task, CLIP_FRAMES)}
    return [Part(f"{name}, {media}", exercise, mark) for media, exercise in exercises.items()]


PARTS = (
    Part("referring image", Exercise("refer"), _mark_image_reference),
    Part("referring image, paraphrased", Exercise("refer", vary=True), _mark_image_reference),
    Part("referring video, 16 frames", Exercise("refer", CLIP_FRAMES), _mark_video_references),
    Part(
        "referring video, 100 frames", Exercise("refer", LONG_FRAMES, crossing=True), _mark_video_references
    ),
    Part("referring video, mode", Exercise("refer", CLIP_FRAMES), _mark_modes),
    *_image_and_video("several at once", "several", _mark_several),
    *_image_and_video("absent object refused", "refuse", _mark_refusal),
    *_image_and_video("grounded caption", "ground", _mark_grounded_caption),
    *_image_and_video("description", "describe", _mark_description),
    Part("region caption, image", Exercise("region"), _mark_answer),
    Part("mask from a", Exercise("refer"), _mark_box_and_point),
    Part("track from a mask, video", Exercise("motion", CLIP_FRAMES, stays=True), _mark_given_mask),
    *(_question(kind, "attribute") for kind in ("colour", "shape", "size")),
    *(_question(task, task) for task in ("count", "exists", "where")),
    _question("motion", "motion", video=True),
    *(_question(kind, "attribute", video=True) for kind in ("colour", "shape")),
    *(_question(task, task, video=True) for task in ("count", "exists")),
    *(
        Part("questions, paraphrased, image", Exercise(task, vary=True), _mark_answer)
        for task in ("attribute", "count", "exists", "where")
    ),
)
