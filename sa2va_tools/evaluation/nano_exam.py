"""The nano model's exam: each ability asked through the runtime that answers users, and marked as raw values.

It knows the model only by its runtime; scores and intervals are made of the values by `nano_eval`.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.evaluation.caption_metrics import compare_masks
from sa2va_tools.evaluation.metrics import overlap, share_found
from sa2va_tools.evaluation.nano_cases import (
    CLIP_FRAMES,
    LONG_FRAMES,
    Case,
    ClipFrames,
    Exercise,
    exam_cases,
)
from sa2va_tools.evaluation.video_metrics import track_quality
from sa2va_tools.media.sampling import first_key_positions, uniform_key_positions
from sa2va_tools.model.output import ModelAnswer, PointPrompt
from sa2va_tools.model.prompt import clean_answer
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.progress import CancelToken
from sa2va_tools.training.tasks import Turn

_MAX_NEW_TOKENS = 160
_FIRST_KEYS, _UNIFORM_KEYS = 3, 5
QUESTIONS = "questions, all kinds"

Values = dict[tuple[str, str], list[Any]]
"""(ability, metric) → one raw value per case: a number, an `Overlap`, or what the metric is made of."""


class Exam:
    """Asks the runtime and marks its answers."""

    def __init__(self, runtime: Sa2vaRuntime, cancel: CancelToken | None = None) -> None:
        self.runtime, self.cancel = runtime, cancel or CancelToken()

    # ---- masks by words -----------------------------------------------------------------------

    def refer_image(self, ability: str, cases: Iterable[Case]) -> Values:
        values: Values = defaultdict(list)
        for case in cases:
            answer = self._answer(case, case.turn)
            reached = overlap(self._masks(case, answer, 1)[0, 0], case.truth_thw(case.turn.segments[0])[0])
            for metric in ("cIoU", "gIoU", "Pr@0.5"):
                values[ability, metric].append(reached)
            values[f"{ability}: {case.turn.kind}", "gIoU"].append(reached)
            values["false refusals, image", "share"].append(float("[SEG]" not in answer.text))
        return values

    def refer_video(self, ability: str, cases: Iterable[Case]) -> Values:
        """All expressions of a clip are tracked together, each by its answer's first `[SEG]`."""
        values: Values = defaultdict(list)
        for case in cases:
            answers = [self._answer(case, turn) for turn in case.turns]
            found = [answer.seg_prompts[:1] for answer in answers]
            tracks = self._tracks(case, np.concatenate(found)) if any(map(len, found)) else None
            column = 0
            for turn, prompts in zip(case.turns, found, strict=True):
                ours = np.zeros_like(case.clip.ids_thw, bool)
                if tracks is not None and len(prompts):
                    ours, column = tracks[:, column], column + 1
                score = track_quality(ours, case.truth_thw(turn.segments[0]))
                for metric, value in (("J", score.j), ("F", score.f), ("J&F", score.j_and_f)):
                    values[ability, metric].append(value)
                values[f"{ability}: {turn.kind}", "J&F"].append(score.j_and_f)
                values["false refusals, video", "share"].append(float(not len(prompts)))
        return values

    def key_frames(self, ability: str, cases: Iterable[Case]) -> Values:
        """The same expressions with several key frames, in both modes of grounding."""
        values: Values = defaultdict(list)
        for case in cases:
            truth = case.truth_thw(case.turn.segments[0])
            answer, length = self._answer(case, case.turn), len(truth)
            for mode, keys in (
                ("sa2va", first_key_positions(length, _FIRST_KEYS)),
                ("sa2va-i", uniform_key_positions(length, _UNIFORM_KEYS)),
            ):
                ours = np.zeros_like(truth)
                if len(answer.seg_prompts):
                    ours = self._tracks(case, answer.seg_prompts[:1], mode=mode, keys=keys)[:, 0]
                name = f"{ability} {mode}, {len(keys)} key frames"
                values[name, "J&F"].append(track_quality(ours, truth).j_and_f)
        return values

    def several(self, ability: str, cases: Iterable[Case]) -> Values:
        """Every wanted object against the mask that fits it best, one to one; missing ones count 0. Whether
        there are too many, too, tells the number."""
        values: Values = defaultdict(list)
        for case in cases:
            answer = self._answer(case, case.turn)
            wanted = case.turn.segments
            truths = np.stack([case.truth_thw(thing)[0] for thing in wanted])
            compared = compare_masks(self._masks(case, answer, 0)[0], truths)
            values[ability, "mIoU, missed count 0"].append(compared)
            values[ability, "right number"].append(float(len(answer.seg_prompts) == len(wanted)))
        return values

    def refuse(self, ability: str, cases: Iterable[Case]) -> Values:
        values: Values = defaultdict(list)
        for case in cases:
            denied = float("[SEG]" not in self._answer(case, case.turn).text)
            values[ability, "share"].append(denied)
            values[f"{ability}: {case.turn.kind}", "share"].append(denied)
        return values

    def ground(self, ability: str, cases: Iterable[Case]) -> Values:
        """Phrases as a bag; for every true object the mask (on the first frame) behind its phrase."""
        values: Values = defaultdict(list)
        for case in cases:
            answer = self._answer(case, case.turn)
            clean = clean_answer(answer.text)
            phrases = [clean.text[slice(*span)] if span else "" for span in clean.phrase_spans]
            values[ability, "object F1"].append(share_found(phrases, _phrases(case.turn.answer)))
            masks = self._masks(case, answer, 0)[0]
            truths = np.stack([case.truth_thw(thing)[0] for thing in case.turn.segments])
            compared = compare_masks(masks, truths)
            values[ability, "AP50"].append(compared)
            values[ability, "mIoU"].append(compared)
            values[ability, "mask gIoU"] += _phrase_ious(case, phrases, masks)
        return values

    # ---- masks by places ----------------------------------------------------------------------

    def boxes_and_points(self, ability: str, cases: Iterable[Case]) -> Values:
        """The box of an object, and the point inside it that is farthest from its edge."""
        values: Values = defaultdict(list)
        for case in cases:
            truth = case.truth_thw(case.turn.segments[0])[0]
            prompts = [PointPrompt(_corners(truth), (2, 3)), PointPrompt((_middle(truth),), (1,))]
            picture = case.clip.frames_thwc[0]
            masks = self.runtime.masks_from_points(picture, prompts, cancel=self.cancel).masks
            for name, mask in zip(("box", "point"), masks, strict=True):
                values[f"{ability} {name}, image", "gIoU"].append(overlap(mask, truth))
        return values

    def track(self, ability: str, cases: Iterable[Case]) -> Values:
        """A right mask on the middle frame, tracked both ways."""
        values: Values = defaultdict(list)
        for case in cases:
            truth = case.truth_thw(case.turn.mentions[0][1])
            middle = len(truth) // 2
            ours = np.zeros_like(truth)
            source, given = ClipFrames(case.clip.frames_thwc), truth[middle][None]
            for frame in self.runtime.masks_from_masks(source, given, middle, cancel=self.cancel):
                ours[frame.position] = frame.masks[0]
            values[ability, "J&F"].append(track_quality(ours, truth).j_and_f)
        return values

    # ---- words --------------------------------------------------------------------------------

    def describe(self, ability: str, cases: Iterable[Case]) -> Values:
        values: Values = defaultdict(list)
        for case in cases:
            said = _said(self._answer(case, case.turn))
            values[ability, "exact"].append(float(said == case.turn.answer))
            values[ability, "object F1"].append(share_found(_listed(said), _listed(case.turn.answer)))
        return values

    def words(self, ability: str, cases: Iterable[Case]) -> Values:
        """Right word for word."""
        right = [float(_said(self._answer(case, case.turn)) == case.turn.answer) for case in cases]
        return {(ability, "exact"): right}

    def question(self, ability: str, cases: Iterable[Case]) -> Values:
        right = self.words(ability, cases)[ability, "exact"]
        return {(ability, "exact"): right, (QUESTIONS, "exact"): list(right)}

    # ---- speed --------------------------------------------------------------------------------

    def speeds(self) -> tuple[tuple[str, float], ...]:
        """On one core: frames per second of tracking one and three objects, seconds per answer about a clip,
        and seconds for an image's answer with its mask."""
        case = next(exam_cases(Exercise("refer", CLIP_FRAMES), "train", 1))
        long = ClipFrames(np.concatenate([case.clip.frames_thwc, case.clip.frames_thwc[::-1]] * 2))
        prompt = np.zeros((1, self.runtime.config.grounding.hidden_dim), np.float32)
        found = self._answer(case, case.turn).seg_prompts
        prompt = found[:1] if len(found) else prompt
        speeds: list[tuple[str, float]] = []
        for objects in (1, 3):
            began = time.perf_counter()
            frames = sum(1 for _ in self.runtime.masks_from_words(long, np.repeat(prompt, objects, 0)))
            speeds.append((f"frames/s, {objects} object(s)", frames / (time.perf_counter() - began)))
        image = next(exam_cases(Exercise("refer"), "train", 1))
        answers: tuple[tuple[str, Callable[[], object]], ...] = (
            ("s per answer about a clip", lambda: self._answer(case, case.turn)),
            ("s per image, answer and mask", lambda: self._masks(image, self._answer(image, image.turn), 1)),
        )
        for name, ask in answers:
            began = time.perf_counter()
            for _ in range(5):
                ask()
            speeds.append((name, (time.perf_counter() - began) / 5))
        return tuple(speeds)

    # ---- asking -------------------------------------------------------------------------------

    def _answer(self, case: Case, turn: Turn) -> ModelAnswer:
        self.cancel.raise_if_cancelled()
        frames = case.clip.frames_thwc
        if turn.regions:
            question = turn.question.removeprefix("<image>")
            mask = case.clip.mask_hw(turn.regions[0])
            return self.runtime.caption(frames[0], mask, question, max_new_tokens=_MAX_NEW_TOKENS)[0]
        seen = np.linspace(0, len(frames) - 1, self.runtime.config.chat_frames).astype(int)
        pictures = [frames[i] for i in seen] if case.video else [frames[0]]
        visual = self.runtime.look(pictures, video=case.video)
        return self.runtime.answer(turn.question, visual, max_new_tokens=_MAX_NEW_TOKENS)

    def _tracks(
        self, case: Case, prompts: NDArray[np.float32], mode: str = "sa2va", keys: Sequence[int] = (0,)
    ) -> NDArray[np.bool_]:
        """(T, objects, S, S)"""
        source = ClipFrames(case.clip.frames_thwc)
        masks = np.zeros((len(source), len(prompts), *case.clip.ids_thw.shape[1:]), bool)
        walk = self.runtime.masks_from_words(
            source, prompts, mode=mode, key_positions=keys, cancel=self.cancel
        )
        for frame in walk:
            masks[frame.position] = frame.masks
        return masks

    def _masks(self, case: Case, answer: ModelAnswer, least: int) -> NDArray[np.bool_]:
        """(1, objects, S, S) on the first frame, filled up with empty masks to `least` objects."""
        count = len(answer.seg_prompts)
        masks = np.zeros((1, max(count, least), *case.clip.ids_thw.shape[1:]), bool)
        if count:
            source = ClipFrames(case.clip.frames_thwc[:1])
            for frame in self.runtime.masks_from_words(source, answer.seg_prompts, cancel=self.cancel):
                masks[0, :count] = frame.masks
        return masks


@dataclass(frozen=True, slots=True)
class Part:
    """An ability's name, what is asked, and the method of `Exam` that asks."""

    name: str
    exercise: Exercise
    ask: Callable[[Exam, str, Iterable[Case]], Values]


def _question(kind: str, task: str, *, video: bool = False, narrowed: bool = False) -> Part:
    exercise = Exercise(task, CLIP_FRAMES if video else 1, kind if narrowed else None)
    return Part(f"question: {kind}, {'video' if video else 'image'}", exercise, Exam.question)


def _both(name: str, task: str, ask: Callable[[Exam, str, Iterable[Case]], Values]) -> tuple[Part, Part]:
    return (
        Part(f"{name}, image", Exercise(task), ask),
        Part(f"{name}, video", Exercise(task, CLIP_FRAMES), ask),
    )


PARTS = (
    Part("referring image", Exercise("refer"), Exam.refer_image),
    Part("referring image, paraphrased", Exercise("refer", vary=True), Exam.refer_image),
    Part("referring video, 16 frames", Exercise("refer", CLIP_FRAMES), Exam.refer_video),
    Part("referring video, 100 frames", Exercise("refer", LONG_FRAMES, crossing=True), Exam.refer_video),
    Part("referring video, mode", Exercise("refer", CLIP_FRAMES), Exam.key_frames),
    *_both("several at once", "several", Exam.several),
    *_both("absent object refused", "refuse", Exam.refuse),
    *_both("grounded caption", "ground", Exam.ground),
    *_both("description", "describe", Exam.describe),
    Part("region caption, image", Exercise("region"), Exam.words),
    Part("mask from a", Exercise("refer"), Exam.boxes_and_points),
    Part("track from a mask, video", Exercise("motion", CLIP_FRAMES, stays=True), Exam.track),
    _question("colour", "attribute", narrowed=True),
    _question("shape", "attribute", narrowed=True),
    _question("size", "attribute", narrowed=True),
    _question("count", "count"),
    _question("exists", "exists"),
    _question("where", "where"),
    _question("motion", "motion", video=True),
    _question("colour", "attribute", video=True, narrowed=True),
    _question("shape", "attribute", video=True, narrowed=True),
    _question("count", "count", video=True),
    _question("exists", "exists", video=True),
    *(
        Part("questions, paraphrased, image", Exercise(task, vary=True), Exam.words)
        for task in ("attribute", "count", "exists", "where")
    ),
)


def _said(answer: ModelAnswer) -> str:
    return clean_answer(answer.text).text


def _phrases(text: str) -> list[str]:
    return re.findall(r"<p>(.*?)</p>", text)


def _listed(text: str) -> list[str]:
    """The objects of `There is a red circle, a blue square and a green star.`"""
    return re.split(r", | and ", text.removeprefix("There is ").removesuffix("."))


def _phrase_ious(case: Case, phrases: Sequence[str], masks_nhw: NDArray[np.bool_]) -> list[float]:
    """For every true object, the IoU of the mask behind its phrase; 0 where it was not named."""
    said = list(enumerate(phrases))
    ious = []
    for phrase, thing in zip(_phrases(case.turn.answer), case.turn.segments, strict=True):
        mine = next((item for item in said if item[1] == phrase), None)
        if mine is None:
            ious.append(0.0)
            continue
        said.remove(mine)
        ious.append(overlap(masks_nhw[mine[0]], case.truth_thw(thing)[0]).iou)
    return ious


def _corners(mask: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Top left and bottom right of the mask's box, as fractions."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    return (
        (columns[0] / width, rows[0] / height),
        ((columns[-1] + 1) / width, (rows[-1] + 1) / height),
    )


def _middle(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The point of the mask that is farthest from its edge, as fractions."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return (float(column) + 0.5) / mask.shape[1], (float(row) + 0.5) / mask.shape[0]
