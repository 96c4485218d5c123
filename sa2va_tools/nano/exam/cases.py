"""What the nano is asked in its exam: unseen scenes, with and without pairs that training left out.

The generators are seeded with texts of their own, so no scene is one of the training's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.model.output import ModelAnswer, PointPrompt
from sa2va_tools.model.runtime.runtime import Session
from sa2va_tools.model.text.prompts import IMAGE
from sa2va_tools.nano.world.rendering import Clip, sample_clip
from sa2va_tools.nano.world.sampling import SceneRecipe, Split
from sa2va_tools.nano.world.scenes import is_held_out
from sa2va_tools.nano.world.tasks import sample_turn
from sa2va_tools.nano.world.turns import Turn, TurnRules

EXAM_SEED = 40_000_000
CLIP_FRAMES = 16
LONG_FRAMES = 100
_TRIES = 60
_MAX_QUESTIONS_PER_CROSSING = 3
_MAX_NEW_TOKENS = 160
_REPETITIONS = 5

Masks = NDArray[np.bool_]
SegPrompts = NDArray[np.float32]
"""(N, C) prompt embeddings."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """A kind of case. Its repr seeds its cases: renaming this class or a field would change the exam."""

    task: str
    frames: int = 1
    """1 is an image."""
    kind: str | None = None
    """Only questions of this kind ("colour" of the task "attribute")."""
    vary: bool = False
    """Paraphrase the published wording."""
    crossing: bool = False
    """Objects hide each other for a while, leave and come back; up to three of them are asked about."""
    stays: bool = False
    """The object is visible in the middle of the clip."""

    @property
    def video(self) -> bool:
        return self.frames > 1


@dataclass(frozen=True, slots=True)
class Case:
    """An image or a clip, and what is asked about it."""

    clip: Clip
    turns: tuple[Turn, ...]
    video: bool

    @property
    def turn(self) -> Turn:
        """The first turn; of most exercises the only one."""
        return self.turns[0]


def sample_cases(exercise: Exercise, split: Split, count: int, seed: int | str = EXAM_SEED) -> Iterator[Case]:
    """Cases with `count` questions in total. In the split "test", every question is about a held-out object,
    or about a whole scene that contains one."""
    rng = random.Random(f"{seed} {exercise} {split}")
    asked = 0
    while asked < count:
        most = min(_MAX_QUESTIONS_PER_CROSSING, count - asked) if exercise.crossing else 1
        case = _sample_case(rng, exercise, split, most)
        if case is not None:
            asked += len(case.turns)
            yield case


def _sample_case(rng: random.Random, exercise: Exercise, split: Split, most: int) -> Case | None:
    recipe = SceneRecipe(video=exercise.video, split=split, leave_share=0.1, held_out_objects=most)
    if exercise.crossing:
        recipe = replace(
            recipe, leave_share=0.25, return_share=0.25, crossing_share=1.0, object_counts=(3, 4, 4, 5)
        )
    clip = sample_clip(rng, recipe, np.linspace(0, 1, exercise.frames).tolist())
    if exercise.crossing and not _hides_something(clip):
        return None
    rules = TurnRules(video=exercise.video, vary=exercise.vary)
    if split == "test":
        held_out = tuple(i for i, obj in enumerate(clip.objects) if is_held_out(obj))
        rules = replace(rules, targets=held_out, allow_held_out=True)
    turns: dict[tuple[int, ...], Turn] = {}
    for _ in range(_TRIES if most > 1 or exercise.kind else 1):
        turn = sample_turn(clip.objects, rng, exercise.task, rules)
        if turn is not None and exercise.kind in (None, turn.kind):
            turns.setdefault(turn.segments, turn)
        if len(turns) == most:
            break
    if not turns:
        return None
    case = Case(clip, tuple(turns.values()), exercise.video)
    middle = exercise.frames // 2
    if exercise.stays and not clip.mask_hw(case.turn.mentions[0][1], middle).any():
        return None
    return case


def _hides_something(clip: Clip) -> bool:
    """True if most of some object is hidden by another one at some time."""
    visible = np.stack([clip.masks_thw(i).sum((1, 2)) for i in range(len(clip.objects))], 1)
    return bool((visible < 0.5 * clip.areas_tn).any())


class ClipFrames:
    """A rendered clip as a source of frames."""

    def __init__(self, frames_thwc: NDArray[np.uint8]) -> None:
        self._frames = frames_thwc

    def __len__(self) -> int:
        return len(self._frames)

    def cache_key(self, position: int) -> None:
        return None

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (self._frames[position] for position in positions)


class Examiner:
    """Turns cases into the model's answers and masks. CancelledError once the run is cancelled."""

    def __init__(self, session: Session) -> None:
        self._language = session.language
        self._masks = session.masks
        self._run = session.run
        self._llm_frames = session.runtime.config.llm_frames
        self.prompt_width = session.runtime.config.sam2.hidden_dim

    def answer(self, case: Case, turn: Turn | None = None) -> ModelAnswer:
        """The answer to one of the case's turns, by default to its first."""
        self._run.raise_if_cancelled()
        turn = turn or case.turn
        frames = case.clip.frames_thwc
        if turn.regions:
            question = turn.question.removeprefix(IMAGE)
            mask = case.clip.mask_hw(turn.regions[0])
            return self._language.caption(frames[0], mask, question, max_new_tokens=_MAX_NEW_TOKENS).answer
        positions = np.linspace(0, len(frames) - 1, self._llm_frames).astype(int) if case.video else [0]
        pictures = [frames[position] for position in positions]
        features = self._language.get_image_features(lambda: pictures, video=case.video)
        return self._language.answer(turn.question, features, max_new_tokens=_MAX_NEW_TOKENS)

    def segment_first_frame(self, case: Case, seg_prompts: SegPrompts, *, minimum: int = 0) -> Masks:
        """(objects, S, S) masks on the first frame, one for each prompt embedding; empty masks are added
        until there are `minimum`."""
        masks = np.zeros((max(len(seg_prompts), minimum), *case.clip.ids_thw.shape[1:]), bool)
        if len(seg_prompts):
            source = ClipFrames(case.clip.frames_thwc[:1])
            for frame in self._masks.track_words(source, seg_prompts):
                masks[: len(seg_prompts)] = frame.masks
        return masks

    def track(
        self, case: Case, seg_prompts: SegPrompts, *, mode: str = "sa2va", positions: Sequence[int] = (0,)
    ) -> Masks:
        """(objects, T, S, S) masks on all frames, a track for each prompt embedding, which is given on the
        frames at `positions`."""
        source = ClipFrames(case.clip.frames_thwc)
        tracks = np.zeros((len(seg_prompts), *case.clip.ids_thw.shape), bool)
        if len(seg_prompts):
            for frame in self._masks.track_words(source, seg_prompts, mode=mode, prompt_positions=positions):
                tracks[:, frame.position] = frame.masks
        return tracks

    def track_mask(self, case: Case, mask: Masks, position: int) -> Masks:
        """(T, S, S): a mask that is given on one frame, tracked in both directions."""
        track = np.zeros(case.clip.ids_thw.shape, bool)
        for frame in self._masks.track_masks(ClipFrames(case.clip.frames_thwc), mask[None], position):
            track[frame.position] = frame.masks[0]
        return track

    def segment_points(self, case: Case, prompts: Sequence[PointPrompt]) -> Masks:
        """(prompts, S, S) masks on the first frame."""
        return self._masks.segment_points(case.clip.frames_thwc[0], prompts).masks

    def track_for_speed(self, frames_thwc: NDArray[np.uint8], seg_prompts: SegPrompts) -> int:
        """Track through a clip and discard the masks; the number of frames."""
        return sum(1 for _ in self._masks.track_words(ClipFrames(frames_thwc), seg_prompts))


def measure_speeds(examiner: Examiner) -> tuple[tuple[str, float], ...]:
    """(What, value): frames per second when one and three objects are tracked, seconds per answer about a
    clip, and seconds per answer with a mask about an image."""
    clip = next(sample_cases(Exercise("refer", CLIP_FRAMES), "train", 1))
    image = next(sample_cases(Exercise("refer"), "train", 1))
    frames = clip.clip.frames_thwc
    long_clip = np.concatenate([frames, frames[::-1]] * 2)
    seg_prompts = examiner.answer(clip).seg_prompts[:1]
    if not len(seg_prompts):
        seg_prompts = np.zeros((1, examiner.prompt_width), np.float32)
    speeds: list[tuple[str, float]] = []
    for objects in (1, 3):
        began = time.perf_counter()
        count = examiner.track_for_speed(long_clip, np.repeat(seg_prompts, objects, 0))
        speeds.append((f"frames/s, {objects} object(s)", count / (time.perf_counter() - began)))
    speeds.append(("s per answer about a clip", _time(lambda: examiner.answer(clip))))

    def answer_with_mask() -> object:
        return examiner.segment_first_frame(image, examiner.answer(image).seg_prompts, minimum=1)

    speeds.append(("s per image, answer and mask", _time(answer_with_mask)))
    return tuple(speeds)


def _time(ask: Callable[[], object]) -> float:
    """Seconds per call."""
    began = time.perf_counter()
    for _ in range(_REPETITIONS):
        ask()
    return (time.perf_counter() - began) / _REPETITIONS
