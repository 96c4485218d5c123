"""What the nano model is asked in its exam: unseen scenes, with and without held-out colour × shape pairs.

Its generators are seeded with words of their own, so no scene is one of training's. It knows nothing of the
model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.training.rendering import Clip, sample_clip
from sa2va_tools.training.tasks import Turn, TurnRules, make_turn
from sa2va_tools.training.world import HELD_OUT, SceneRecipe, Split

EXAM_SEED = 40_000_000
CLIP_FRAMES, LONG_FRAMES = 16, 100
_TRIES = 60


@dataclass(frozen=True, slots=True)
class Exercise:
    """A kind of case. `kind` narrows a task down ("colour" of "attribute"); `vary` paraphrases the published
    wording; `frames` 1 is an image. `crossing`: objects hide each other for a while, leave and come back, and
    up to three of them are asked about. `stays`: the object is in sight in the middle of the clip."""

    task: str
    frames: int = 1
    kind: str | None = None
    vary: bool = False
    crossing: bool = False
    stays: bool = False

    @property
    def video(self) -> bool:
        return self.frames > 1


@dataclass(frozen=True, slots=True)
class Case:
    """A picture or a clip and what is asked about it."""

    clip: Clip
    turns: tuple[Turn, ...]
    video: bool

    @property
    def turn(self) -> Turn:
        return self.turns[0]

    def truth_thw(self, thing: int) -> NDArray[np.bool_]:
        """(T, S, S): where object `thing` is visible."""
        return np.equal(self.clip.ids_thw, thing + 1)


def exam_cases(exercise: Exercise, split: Split, count: int, seed: int | str = EXAM_SEED) -> Iterator[Case]:
    """Cases with `count` questions in all. In the "test" split every question is about a held-out object
    (or, where it is about the whole picture, about a scene with one)."""
    rng = random.Random(f"{seed} {exercise} {split}")
    asked = 0
    while asked < count:
        case = _sample_case(rng, exercise, split, min(3, count - asked) if exercise.crossing else 1)
        if case is not None:
            asked += len(case.turns)
            yield case


def _sample_case(rng: random.Random, exercise: Exercise, split: Split, most: int) -> Case | None:
    away = 0.25 if exercise.crossing else 0.1
    recipe = SceneRecipe(
        video=exercise.video,
        split=split,
        leave_share=away,
        return_share=away if exercise.crossing else 0.0,
        crossing_share=1.0 if exercise.crossing else 0.0,
        object_counts=(3, 4, 4, 5) if exercise.crossing else SceneRecipe().object_counts,
        kept_objects=most,
    )
    clip = sample_clip(rng, recipe, np.linspace(0, 1, exercise.frames).tolist())
    if exercise.crossing and not _hides_something(clip):
        return None
    targets = _targets(clip, split)
    turns: dict[tuple[int, ...], Turn] = {}
    for _ in range(_TRIES if most > 1 or exercise.kind else 1):
        rules = TurnRules(exercise.video, exercise.vary, targets, allow_held_out=split == "test")
        turn = make_turn(clip.objects, rng, exercise.task, rules)
        if turn is not None and exercise.kind in (None, turn.kind):
            turns.setdefault(turn.segments, turn)
        if len(turns) == most:
            break
    case = Case(clip, tuple(turns.values()), exercise.video)
    if exercise.stays and turns and not case.truth_thw(case.turn.mentions[0][1])[exercise.frames // 2].any():
        return None
    return case if turns else None


def _hides_something(clip: Clip) -> bool:
    """Is most of some object behind another one at some time?"""
    visible = np.stack([(clip.ids_thw == i + 1).sum((1, 2)) for i in range(len(clip.objects))], 1)
    return bool((visible < 0.5 * clip.areas_tn).any())


def _targets(clip: Clip, split: Split) -> tuple[int, ...] | None:
    if split == "train":
        return None
    return tuple(i for i, thing in enumerate(clip.objects) if (thing.colour, thing.shape) in HELD_OUT)


class ClipFrames:
    """A rendered clip as a source of frames."""

    def __init__(self, frames_thwc: NDArray[np.uint8]) -> None:
        self._frames = frames_thwc

    def __len__(self) -> int:
        return len(self._frames)

    def key_of(self, position: int) -> None:
        return None

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (self._frames[position] for position in positions)
