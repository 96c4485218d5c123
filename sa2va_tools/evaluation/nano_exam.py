"""The pieces of the nano model's exam: one method per ability, each asking the runtime and giving rows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va_tools.evaluation.metrics import (
    Overlap,
    bootstrap,
    cumulative_iou,
    mean,
    mean_iou,
    overlap,
    precision_at,
    region_similarity,
    share_found,
)
from sa2va_tools.evaluation.nano_cases import Case, ClipFrames, exam_cases
from sa2va_tools.evaluation.nano_report import Row
from sa2va_tools.model.output import ModelAnswer, PointPrompt
from sa2va_tools.model.prompt import clean_answer
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.progress import CancelToken
from sa2va_tools.training.world import Split

_SPLITS: tuple[Split, ...] = ("test", "train")
_MAX_NEW_TOKENS = 160
_WORDS = (
    ("attribute", False), ("count", False), ("exists", False), ("where", False),
    ("motion", True), ("count", True), ("attribute", True),
)  # fmt: skip


class Exam:
    """`count` cases per referring row, half as many (at least one) per other row."""

    def __init__(self, runtime: Sa2vaRuntime, count: int, seed: int, cancel: CancelToken) -> None:
        self.runtime, self.count, self.seed, self.cancel = runtime, count, seed, cancel

    def parts(self) -> list[tuple[str, Callable[[], list[Row]]]]:
        """Named pieces of the exam, each giving rows."""
        parts: list[tuple[str, Callable[[], list[Row]]]] = []
        for split in _SPLITS:
            parts += [
                ("refer, image", partial(self.refer_image, split, vary=False)),
                ("refer, image, paraphrased", partial(self.refer_image, split, vary=True)),
                ("refer, video", partial(self.refer_video, split)),
                ("refuse", partial(self.refuse, split)),
                ("ground", partial(self.ground, split)),
                ("describe", partial(self.describe, split)),
                ("boxes and points", partial(self.boxes_and_points, split)),
                ("track", partial(self.track, split)),
                ("region", partial(self.words, "region", video=False, split=split)),
            ]
            parts += [(task, partial(self.words, task, video=video, split=split)) for task, video in _WORDS]
        return parts

    # ---- masks --------------------------------------------------------------------------------

    def refer_image(self, split: Split, *, vary: bool) -> list[Row]:
        overlaps: list[Overlap] = []
        by_kind: dict[str, list[Overlap]] = {}
        for case in self._cases("refer", video=False, split=split, vary=vary):
            reached = overlap(
                self._first_mask(case, self._answer(case)), case.truth_thw(case.turn.segments[0])
            )
            overlaps.append(reached)
            by_kind.setdefault(case.turn.kind, []).append(reached)
        name = "referring image" + (", paraphrased" if vary else "")
        rows = [
            Row(name, split, "cIoU", bootstrap(overlaps, cumulative_iou)),
            Row(name, split, "gIoU", bootstrap(overlaps, mean_iou)),
            Row(name, split, "Pr@0.5", bootstrap(overlaps, lambda some: precision_at(some, 0.5))),
        ]
        kinds = [] if vary else sorted(by_kind.items())
        return rows + [Row(f"{name}: {k}", split, "gIoU", bootstrap(some, mean_iou)) for k, some in kinds]

    def refer_video(self, split: Split) -> list[Row]:
        scores: list[float] = []
        by_kind: dict[str, list[float]] = {}
        for case in self._cases("refer", video=True, split=split):
            ours = self._first_mask(case, self._answer(case))
            score = region_similarity(ours, case.truth_thw(case.turn.segments[0]))
            scores.append(score)
            by_kind.setdefault(case.turn.kind, []).append(score)
        rows = [Row("referring video", split, "J", bootstrap(scores, mean))]
        kinds = sorted(by_kind.items())
        return rows + [Row(f"referring video: {k}", split, "J", bootstrap(some, mean)) for k, some in kinds]

    def boxes_and_points(self, split: Split) -> list[Row]:
        """The box of an object, and the point inside it that is farthest from its edge."""
        boxed: list[Overlap] = []
        clicked: list[Overlap] = []
        for case in self._cases("refer", video=False, split=split):
            truth = case.truth_thw(case.turn.segments[0])[0]
            prompts = [PointPrompt(_corners(truth), (2, 3)), PointPrompt((_middle(truth),), (1,))]
            masks = self.runtime.masks_from_points(
                case.clip.frames_thwc[0], prompts, cancel=self.cancel
            ).masks
            boxed.append(overlap(masks[0], truth))
            clicked.append(overlap(masks[1], truth))
        return [
            Row("mask from a box, image", split, "gIoU", bootstrap(boxed, mean_iou)),
            Row("mask from a point, image", split, "gIoU", bootstrap(clicked, mean_iou)),
        ]

    def track(self, split: Split) -> list[Row]:
        """A right mask on the middle frame, tracked both ways."""
        scores: list[float] = []
        for case in self._cases("motion", video=True, split=split):
            truth = case.truth_thw(case.turn.mentions[0][1])
            middle = len(truth) // 2
            if not truth[middle].any():
                continue
            source = ClipFrames(case.clip.frames_thwc)
            ours = np.zeros_like(truth)
            given = truth[middle][None]
            for frame in self.runtime.masks_from_masks(source, given, middle, cancel=self.cancel):
                ours[frame.position] = frame.masks[0]
            scores.append(region_similarity(ours, truth))
        return [Row("track from a mask, video", split, "J", bootstrap(scores, mean))] if scores else []

    def ground(self, split: Split) -> list[Row]:
        """Phrases as a bag, and the mask of each rightly named object against its own."""
        rows: list[Row] = []
        for video in (False, True):
            found: list[float] = []
            ious: list[float] = []
            for case in self._cases("ground", video=video, split=split):
                answer = self._answer(case)
                clean = clean_answer(answer.text)
                phrases = [clean.text[slice(*span)] if span else "" for span in clean.phrase_spans]
                found.append(share_found(phrases, _phrases(case.turn.answer)))
                if not video:
                    ious += _phrase_ious(case, phrases, self._masks(case, answer))
            kind = "video" if video else "image"
            rows.append(Row(f"grounded caption, {kind}", split, "phrase F1", bootstrap(found, mean)))
            if ious:
                rows.append(Row(f"grounded caption, {kind}", split, "mask gIoU", bootstrap(ious, mean)))
        return rows

    # ---- words --------------------------------------------------------------------------------

    def refuse(self, split: Split) -> list[Row]:
        """Absent objects denied, and present ones not denied."""
        rows: list[Row] = []
        for video in (False, True):
            kind = "video" if video else "image"
            denied = [
                float("[SEG]" not in self._answer(case).text)
                for case in self._cases("refuse", video=video, split=split)
            ]
            rows.append(Row(f"absent object refused, {kind}", split, "share", bootstrap(denied, mean)))
        return rows

    def describe(self, split: Split) -> list[Row]:
        rows: list[Row] = []
        for video in (False, True):
            exact: list[float] = []
            found: list[float] = []
            for case in self._cases("describe", video=video, split=split):
                said = _said(self._answer(case))
                exact.append(float(said == case.turn.answer))
                found.append(share_found(_listed(said), _listed(case.turn.answer)))
            kind = "video" if video else "image"
            rows.append(Row(f"description, {kind}", split, "exact", bootstrap(exact, mean)))
            rows.append(Row(f"description, {kind}", split, "object F1", bootstrap(found, mean)))
        return rows

    def words(self, task: str, *, video: bool, split: Split) -> list[Row]:
        right = [
            float(_said(self._answer(case)) == case.turn.answer)
            for case in self._cases(task, video=video, split=split)
        ]
        name = f"{task}, {'video' if video else 'image'}"
        return [Row(name, split, "exact", bootstrap(right, mean))]

    # ---- speed --------------------------------------------------------------------------------

    def speeds(self) -> tuple[tuple[str, float], ...]:
        """Frames per second of tracking on one core with one and three objects, and seconds per answer."""
        case = next(exam_cases("refer", video=True, split="train", count=1, seed=self.seed))
        long = ClipFrames(np.concatenate([case.clip.frames_thwc, case.clip.frames_thwc[::-1]] * 2))
        prompt = self._answer(case).seg_prompts
        if not len(prompt):
            prompt = np.zeros((1, self.runtime.config.grounding.hidden_dim), np.float32)
        speeds: list[tuple[str, float]] = []
        for objects in (1, 3):
            began = time.perf_counter()
            frames = sum(1 for _ in self.runtime.masks_from_words(long, np.repeat(prompt[:1], objects, 0)))
            speeds.append((f"frames/s, {objects} object(s)", frames / (time.perf_counter() - began)))
        began = time.perf_counter()
        for _ in range(5):
            self._answer(case)
        speeds.append(("s per answer about a clip", (time.perf_counter() - began) / 5))
        return tuple(speeds)

    # ---- asking -------------------------------------------------------------------------------

    def _cases(self, task: str, *, video: bool, split: Split, vary: bool = False) -> Iterator[Case]:
        count = self.count if task == "refer" else max(1, self.count // 2)
        return exam_cases(task, video=video, split=split, count=count, seed=self.seed, vary=vary)

    def _answer(self, case: Case) -> ModelAnswer:
        self.cancel.raise_if_cancelled()
        frames = case.clip.frames_thwc
        if case.turn.regions:
            question = case.turn.question.removeprefix("<image>")
            mask = case.clip.mask_hw(case.turn.regions[0])
            return self.runtime.caption(frames[0], mask, question, max_new_tokens=_MAX_NEW_TOKENS)[0]
        seen = np.linspace(0, len(frames) - 1, self.runtime.config.chat_frames).astype(int)
        pictures = [frames[i] for i in seen] if case.video else [frames[0]]
        visual = self.runtime.look(pictures, video=case.video)
        return self.runtime.answer(case.turn.question, visual, max_new_tokens=_MAX_NEW_TOKENS)

    def _masks(self, case: Case, answer: ModelAnswer) -> NDArray[np.bool_]:
        """(T, objects, S, S)"""
        source = ClipFrames(case.clip.frames_thwc)
        masks = np.zeros((len(source), len(answer.seg_prompts), *case.clip.ids_thw.shape[1:]), bool)
        if len(answer.seg_prompts):
            for frame in self.runtime.masks_from_words(source, answer.seg_prompts, cancel=self.cancel):
                masks[frame.position] = frame.masks
        return masks

    def _first_mask(self, case: Case, answer: ModelAnswer) -> NDArray[np.bool_]:
        """(T, S, S): the first object of the answer, nothing where it found none."""
        masks = self._masks(case, answer)
        return masks[:, 0] if masks.shape[1] else np.zeros_like(case.clip.ids_thw, bool)


def _said(answer: ModelAnswer) -> str:
    return clean_answer(answer.text).text


def _phrases(text: str) -> list[str]:
    return re.findall(r"<p>(.*?)</p>", text)


def _listed(text: str) -> list[str]:
    """The objects of `There is a red circle, a blue square and a green star.`"""
    return re.split(r", | and ", text.removeprefix("There is ").removesuffix("."))


def _phrase_ious(case: Case, phrases: Sequence[str], masks_tnhw: NDArray[np.bool_]) -> list[float]:
    """For every true object, the IoU of the mask behind its phrase; 0 where it was not named."""
    said = list(enumerate(phrases))
    ious = []
    for phrase, thing in zip(_phrases(case.turn.answer), case.turn.segments, strict=True):
        mine = next((item for item in said if item[1] == phrase), None)
        if mine is None:
            ious.append(0.0)
            continue
        said.remove(mine)
        ious.append(overlap(masks_tnhw[0, mine[0]], case.truth_thw(thing)[0]).iou)
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
