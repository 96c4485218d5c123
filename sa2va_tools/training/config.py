"""The recipe of a training run: how many steps each stage takes, on how large batches, from which seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

StageName = Literal["grounding", "vision", "language", "practice", "review", "drill", "joint"]
STAGES: tuple[StageName, ...] = get_args(StageName)
_SMOKE_STEPS, _SMOKE_BATCHES = 18, 6  # three rounds; the joint stage has six kinds of step


@dataclass(frozen=True, slots=True)
class NanoRecipe:
    """Steps per stage. The grounding stage runs beside vision and language; practice, review, drill
    and joint follow.

    `batch_share` scales the clips of every batch; after `repeats_after` batches a stage draws the same ones
    again (None: always new ones). `workers` processes each draw a whole batch in every step of the last four
    stages; they belong to the recipe, for the same seed with another number of them gives other weights.
    """

    grounding_steps: int = 2600
    vision_steps: int = 1100
    language_steps: int = 3300
    practice_steps: int = 2800
    review_steps: int = 2400
    drill_steps: int = 3000
    joint_steps: int = 500
    batch_share: float = 1.0
    repeats_after: int | None = None
    seed: int = 0
    workers: int = 2

    def steps_of(self, stage: StageName) -> int:
        steps: int = getattr(self, f"{stage}_steps")
        return steps

    def scaled(self, share: float) -> NanoRecipe:
        """The same recipe with `share` of the steps, at least two a stage. ValueError for a share of 0 or
        less."""
        if not share > 0:
            raise ValueError(f"a recipe needs steps: a share of {share} was asked for")
        return self._with_steps({stage: max(2, round(self.steps_of(stage) * share)) for stage in STAGES})

    def smoke(self) -> NanoRecipe:
        """Every stage for a moment in one process, on a few small batches again and again: each loss must
        fall."""
        small = self._with_steps(dict.fromkeys(STAGES, _SMOKE_STEPS))
        return replace(small, batch_share=1 / 8, repeats_after=_SMOKE_BATCHES, workers=1)

    def _with_steps(self, steps: dict[StageName, int]) -> NanoRecipe:
        return replace(
            self,
            grounding_steps=steps["grounding"],
            vision_steps=steps["vision"],
            language_steps=steps["language"],
            practice_steps=steps["practice"],
            review_steps=steps["review"],
            drill_steps=steps["drill"],
            joint_steps=steps["joint"],
        )
