"""The recipe of a training run: how many steps each stage takes, and from which seed."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class NanoRecipe:
    """Steps per stage. The grounding stage runs beside vision and language; the joint stage follows both.

    `workers` processes share every batch of the joint stage; they belong to the recipe, for the same seed
    with another number of them gives other weights.
    """

    grounding_steps: int = 3000
    vision_steps: int = 1200
    language_steps: int = 4000
    joint_steps: int = 2000
    seed: int = 0
    workers: int = 2

    def scaled(self, share: float) -> NanoRecipe:
        """The same recipe with `share` of the steps, at least two a stage. ValueError for a share of 0 or
        less."""
        if share <= 0:
            raise ValueError(f"a recipe needs steps: a share of {share} was asked for")
        steps = {name: max(2, round(getattr(self, name) * share)) for name in _STAGES}
        return replace(self, **steps)


_STAGES = ("grounding_steps", "vision_steps", "language_steps", "joint_steps")
