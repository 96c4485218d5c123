"""What a multimodal language model owes to Sa2VA. One file per family implements it.

A family turns pictures and text into embeddings and runs its language model on them; everything
after the `[SEG]` hidden states (projection, SAM-2, masks) is the same for all.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from sa2va_tools.model.preprocess import Picture
from sa2va_tools.progress import CancelToken


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
    key: Hashable | None = None
    """The same for the same pictures shown the same way; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the language model reads next, in one row or in several."""

    tokens: Tensor
    """(rows, tokens, hidden)"""
    positions: Tensor | None = None
    """(3, rows, tokens), time, row and column of each token counted from the prompt's start, for families
    whose text is not a line; (rows, tokens) where it is one; None: on from where the cache stands."""
    pictured: Tensor | None = None
    """(rows, tokens) bool: the visual ones, for families with `deep` features."""
    deep: tuple[Tensor, ...] = ()
    """(visual tokens of all rows, hidden) each."""
    seen: Tensor | None = None
    """(rows, tokens of the cache and these) bool: False for padding; None where there is none."""

    def part(self, start: int, stop: int) -> Embedded:
        """Some of the tokens of a single row, with what belongs to them."""
        positions = None if self.positions is None else self.positions[..., start:stop]
        if self.pictured is None or not bool(self.pictured[:, start:stop].any()):
            return Embedded(self.tokens[:, start:stop], positions)
        first, last = (int(self.pictured[:, :at].sum()) for at in (start, stop))
        return Embedded(
            self.tokens[:, start:stop],
            positions,
            self.pictured[:, start:stop],
            tuple(features[first:last] for features in self.deep),
        )


@dataclass(frozen=True, slots=True)
class StepOutput:
    """One pass of the language model: the hidden state that `[SEG]` reads, for each input token,
    (tokens, hidden), and the logits of the next token, (vocabulary,); of `step_all`, rows come first."""

    hidden: Tensor
    next_logits: Tensor

    def row(self, number: int) -> StepOutput:
        """Of one row."""
        return StepOutput(self.hidden[number], self.next_logits[number])


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

    def look(
        self, pictures: Sequence[Picture], *, video: bool, cancel: CancelToken | None = None
    ) -> VisualInput:
        """Run the vision encoder once over an image (`video` False, tiled) or frames, a few at a time."""
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

    def copied(self, cache: Any, length: int) -> Any:
        """A cache of its own that holds the first `length` tokens of `cache`."""
        ...

    def cache_bytes(self, cache: Any) -> int:
        """What the keys and values of `cache` take."""
        ...

    def states_of(self, cache: Any) -> DynamicCache:
        """The keys and values of `cache`."""
        ...

    def cache_of(self, states: DynamicCache) -> Any:
        """A cache that holds these keys and values; like a `copied` one."""
        ...

    def step(self, read: Embedded, cache: Any) -> StepOutput:
        """Feed tokens of one row after what the cache holds."""
        ...

    def step_all(self, read: Embedded, states: DynamicCache) -> StepOutput:
        """Feed as many tokens to each row after what `states` hold; `read` has their positions. Only the last
        layer's hidden states come out."""
        ...

    def token_embeddings(self, input_ids: Tensor) -> Tensor: ...
