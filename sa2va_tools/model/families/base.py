"""What a multimodal language model owes to Sa2VA. One file per family implements it.

A family turns pictures and text into embeddings and runs its language model on them; everything
after the `[SEG]` hidden states (projection, SAM-2, masks) is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sa2va_tools.model.preprocess import Picture


@dataclass(frozen=True, slots=True)
class VisualInput:
    """Visual tokens of one image (several tiles) or of several frames (one tile each)."""

    tokens: Tensor
    """(tiles, tokens per tile, hidden); (1, all tokens, hidden) where pictures keep their shape."""
    tiles_per_picture: tuple[int, ...]
    grids: tuple[tuple[int, int], ...] = ()
    """Rows and columns of each picture's tokens, where pictures keep their shape."""
    deep: tuple[Tensor, ...] = ()
    """(all tokens, hidden) each, for families whose first layers read the pictures anew."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the language model reads next."""

    tokens: Tensor
    """(1, tokens, hidden)"""
    positions: Tensor | None = None
    """(3, 1, tokens), time, row and column of each token, for families whose text is not a line."""
    pictured: Tensor | None = None
    """(1, tokens) bool: the visual ones, for families with `deep` features."""
    deep: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class StepOutput:
    """One pass of the language model: the hidden state that `[SEG]` reads, for each input token,
    (tokens, hidden), and the logits of the next token, (vocabulary,)."""

    hidden: Tensor
    next_logits: Tensor


class Family(Protocol):
    """The interface; implemented by torch modules."""

    region_grid: int
    """Side of the grid of visual tokens that a region prompt selects from; 0 where there are none."""
    head_name: str
    """The parameter of the language model's head, which a checkpoint with tied embeddings may lack."""
    image_token_id: int
    hidden_size: int
    layers: nn.ModuleList
    """The language model's decoder layers."""

    def tie_head(self) -> None:
        """Let the head share the weights of the token embeddings."""
        ...

    def look(self, pictures: Sequence[Picture], *, video: bool) -> VisualInput:
        """Run the vision encoder once over an image (`video` False, tiled) or frames."""
        ...

    def placeholders(self, visual: VisualInput) -> str:
        """The text that stands for the pictures in the prompt."""
        ...

    def embed(
        self, input_ids: Tensor, visual: VisualInput | None, cells: Sequence[NDArray[np.int64]]
    ) -> Embedded:
        """(1, tokens) ids → their embeddings with visual tokens in their places; `cells` are the grid
        cells (row-major numbers) of each region."""
        ...

    def new_cache(self) -> Any:
        """An empty key-value cache."""
        ...

    def step(self, read: Embedded, cache: Any) -> StepOutput:
        """Feed tokens after what the cache holds."""
        ...

    def token_embeddings(self, input_ids: Tensor) -> Tensor: ...
