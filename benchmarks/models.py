"""SAM-2 of the sizes that are measured. Weights are generated: speed does not depend on what they know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.config import GroundingConfig
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.loading import load_checkpoint

Size = Literal["nano", "hiera-l"]
Modules = TypeVar("Modules", bound=nn.Module)


def grounding_of(size: Size, device: torch.device, dtype: torch.dtype) -> Sam2Grounding:
    """The nano's own, or Hiera-L as Sa2VA has it."""
    if size == "nano":
        return load_checkpoint(NANO_FOLDER, device=device, dtype=dtype).modules.grounding
    torch.manual_seed(0)
    made = Sam2Grounding(GroundingConfig()).eval().requires_grad_(False)
    let_objects_stay(made)
    return in_format(made.to(device), dtype)


def in_format(modules: Modules, dtype: torch.dtype) -> Modules:
    """The modules with their parameters in `dtype`. Positions are computed from buffers, which stay as they
    are, as in a checkpoint that the engine loads."""
    for parameter in modules.parameters():
        parameter.data = parameter.data.to(dtype)
    return modules


def let_objects_stay(generated: Sam2Grounding) -> None:
    """Scores of generated weights lie near zero, and would let an object come and go by chance; a bias keeps
    it there, as in most videos."""
    with torch.no_grad():
        generated.mask_decoder.pred_obj_score_head.proj_out.bias.add_(4)


class Frames:
    """A clip in memory: a bright square drifts over noise."""

    def __init__(self, count: int, size_hw: tuple[int, int] = (360, 640)) -> None:
        noise = np.random.default_rng(0).integers(60, 120, (*size_hw, 3), dtype=np.uint8)
        self.pictures: list[NDArray[np.uint8]] = []
        for number in range(count):
            picture = np.roll(noise, number, 1)
            left = 20 + (7 * number) % (size_hw[1] - 140)
            picture[100:220, left : left + 120] = (230, 80, 40)
            self.pictures.append(picture)

    def __len__(self) -> int:
        return len(self.pictures)

    def key_of(self, position: int) -> tuple[str, int]:
        return "benchmark", position

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (self.pictures[position] for position in positions)


def embeddings_of(grounding: Sam2Grounding, objects: int) -> torch.Tensor:
    """(objects, C) as the language model would give."""
    parameter = grounding.no_object_pointer
    made = torch.randn(objects, grounding.config.hidden_dim, generator=torch.Generator().manual_seed(1))
    return made.to(parameter.device, parameter.dtype)
