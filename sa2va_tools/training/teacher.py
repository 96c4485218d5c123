"""The teacher's prompt space: what a `[SEG]` embedding should say about an object.

A fixed code of place, extent, colour, shape and size, padded to the width of SAM-2's prompts. The grounding
part learns to read it and the language part learns to write it, so the two can be trained apart, at the same
time, and meet. It is used in training only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va_tools.training.rendering import Clip
from sa2va_tools.training.world import COLOURS, SHAPES, SIDE, SIZES

_CENTRE_WAVES = (1, 2, 4)
_EXTENT_WAVES = (1, 2)
PLACE_DIMS = 4 * len(_CENTRE_WAVES) + 4 * len(_EXTENT_WAVES)
CODE_DIMS = PLACE_DIMS + len(COLOURS) + len(SHAPES) + len(SIZES)
UNNAMED = len(COLOURS)  # the colour index of a random paint: its colour code is all zeros


def place_code(boxes_xyxy: Tensor) -> Tensor:
    """(N, 4) boxes in pixels → (N, PLACE_DIMS) waves of centre and extent."""
    unit = boxes_xyxy / SIDE
    centre = (unit[:, :2] + unit[:, 2:]) / 2
    extent = unit[:, 2:] - unit[:, :2]
    waves = []
    for value, frequencies in ((centre, _CENTRE_WAVES), (extent, _EXTENT_WAVES)):
        for frequency in frequencies:
            waves += [torch.sin(math.pi * frequency * value), torch.cos(math.pi * frequency * value)]
    return torch.cat(waves, 1)


def object_code(boxes_xyxy: Tensor, attributes: Tensor, width: int) -> Tensor:
    """(N, 4) boxes and (N, 3) colour, shape, size indices → (N, width) prompt embeddings."""
    colour, shape, size = attributes.unbind(1)
    code = torch.cat(
        [
            place_code(boxes_xyxy),
            F.one_hot(colour, len(COLOURS) + 1)[:, : len(COLOURS)].float(),
            F.one_hot(shape, len(SHAPES)).float(),
            F.one_hot(size, len(SIZES)).float(),
        ],
        1,
    )
    return F.pad(code, (0, width - CODE_DIMS))


def attributes_of(clip: Clip, indices: Sequence[int]) -> Tensor:
    """(N, 3) long: colour (UNNAMED for a random paint), shape, size."""
    rows = []
    for index in indices:
        shape = clip.objects[index]
        rows.append((UNNAMED if shape.colour is None else shape.colour, shape.shape, shape.size))
    return torch.tensor(rows, dtype=torch.long).view(-1, 3)


def blur_prompts(
    boxes_xyxy: Tensor, attributes: Tensor, place_is_optional: Tensor, width: int, generator: torch.Generator
) -> Tensor:
    """Codes as an imperfect language model would write them, so that the mask decoder learns to forgive.

    Centres are off by 2 px (sometimes 8), extents by 10 %; a third lose their attributes; of those objects
    that colour and shape alone identify (`place_is_optional`), some lose their place. (N, width) float32.
    """
    count = len(boxes_xyxy)

    def uniform() -> Tensor:
        return torch.rand(count, 1, generator=generator).to(boxes_xyxy.device)

    def normal(columns: int) -> Tensor:
        return torch.randn(count, columns, generator=generator).to(boxes_xyxy.device)

    spread = torch.where(uniform() < 0.15, 8.0, 2.0)
    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 + normal(2) * spread
    extent = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) * (1 + 0.1 * normal(2))
    code = object_code(torch.cat([centre - extent / 2, centre + extent / 2], 1), attributes, width)
    code[:, :CODE_DIMS] += 0.1 * normal(CODE_DIMS)
    keeps_attributes = uniform() > 0.3
    loses_place = (uniform() < 0.12) & place_is_optional[:, None] & keeps_attributes
    code[:, PLACE_DIMS:CODE_DIMS] *= keeps_attributes
    code[:, :PLACE_DIMS] *= ~loses_place
    return code
