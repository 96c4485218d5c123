"""What the nano model is asked in its exam: unseen scenes, with and without held-out colour × shape pairs.

Seeds are far from those of training, whose scenes never hold a held-out pair. It knows nothing of the model.
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

EXAM_SEED = 20_000_000
CLIP_FRAMES = 16


@dataclass(frozen=True, slots=True)
class Case:
    """A picture or a clip and one question about it."""

    clip: Clip
    turn: Turn
    split: Split
    video: bool

    def truth_thw(self, thing: int) -> NDArray[np.bool_]:
        """(T, S, S): where object `thing` is visible."""
        return np.equal(self.clip.ids_thw, thing + 1)


def exam_cases(
    task: str, *, video: bool, split: Split, count: int, seed: int = EXAM_SEED, vary: bool = False
) -> Iterator[Case]:
    """`count` cases, one scene each. In the "test" split every question is about a held-out object (or, where
    it is about the whole picture, about a scene with one). `vary` paraphrases the published wording."""
    rng = random.Random(f"{seed} {task} {video} {split} {vary}")
    moments = np.linspace(0, 1, CLIP_FRAMES).tolist() if video else [0.0]
    made = 0
    while made < count:
        clip = sample_clip(rng, SceneRecipe(video=video, split=split), moments)
        rules = TurnRules(
            video=video, vary=vary, targets=_targets(clip, split), allow_held_out=split == "test"
        )
        turn = make_turn(clip.objects, rng, task, rules)
        if turn is not None:
            made += 1
            yield Case(clip, turn, split, video)


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

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (self._frames[position] for position in positions)
