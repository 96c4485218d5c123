"""The recipe of a training run: how long each stage lasts, and from which seed."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class NanoRecipe:
    """Minutes per stage on two cores of about 2020. The grounding stage runs beside vision and language; the
    joint stage follows both and uses all workers."""

    grounding_minutes: float = 45.0
    vision_minutes: float = 16.0
    language_minutes: float = 60.0
    joint_minutes: float = 15.0
    seed: int = 0
    workers: int = 2

    @property
    def wall_minutes(self) -> float:
        return max(self.grounding_minutes, self.vision_minutes + self.language_minutes) + self.joint_minutes

    def lasting(self, minutes: float) -> NanoRecipe:
        """The same recipe squeezed or stretched to take `minutes` in all. ValueError for none."""
        if minutes <= 0:
            raise ValueError(f"training needs a time: {minutes} minutes were given")
        scale = minutes / self.wall_minutes
        return replace(
            self,
            grounding_minutes=self.grounding_minutes * scale,
            vision_minutes=self.vision_minutes * scale,
            language_minutes=self.language_minutes * scale,
            joint_minutes=self.joint_minutes * scale,
        )
