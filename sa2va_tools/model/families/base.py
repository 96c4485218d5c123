"""What a family of multimodal language models implements, one file per family.

A family turns pictures and text into embeddings and runs its language model on them; everything after the
hidden states at `[SEG]` (projection, SAM-2, masks) is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from sa2va_tools.errors import CheckpointMismatchError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.families.kv_cache import cache_argument
from sa2va_tools.model.preprocessing.tiles import Picture
from sa2va_tools.run import Run


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Visual tokens of one image (several tiles) or of several frames (one tile each)."""

    tokens: Tensor
    """(tiles, tokens per tile, hidden); (1, tokens, hidden) for families that keep the pictures' shape."""
    tiles_per_picture: tuple[int, ...]
    grids: tuple[tuple[int, int], ...] = ()
    """Rows and columns of each picture's tokens, for families that keep the pictures' shape."""
    deepstack_features: tuple[Tensor, ...] = ()
    """(all tokens, hidden) each, for families that add them in the first layers."""
    cache_key: Hashable | None = None
    """Equal for the same pictures shown in the same way; None if that is unknown."""


@dataclass(frozen=True, slots=True)
class LanguageInputs:
    """Input of one pass of the language model, in one or several rows."""

    inputs_embeds: Tensor
    """(rows, tokens, hidden)"""
    position_ids: Tensor | None = None
    """(3, rows, tokens): time, row and column of each token, for families with multimodal positions; (rows,
    tokens) for the others; None: continue where the cache ends."""
    image_mask: Tensor | None = None
    """(rows, tokens) bool: which tokens are visual, for families with `deepstack_features`."""
    deepstack_features: tuple[Tensor, ...] = ()
    """(visual tokens of all rows, hidden) each."""
    attention_mask: Tensor | None = None
    """(rows, cached and new tokens) bool: False for padding; None without padding."""

    def slice_tokens(self, start: int, stop: int) -> LanguageInputs:
        """Some of the tokens of a single row, with what belongs to them."""
        position_ids = None if self.position_ids is None else self.position_ids[..., start:stop]
        if self.image_mask is None or not bool(self.image_mask[:, start:stop].any()):
            return LanguageInputs(self.inputs_embeds[:, start:stop], position_ids)
        first, last = (int(self.image_mask[:, :at].sum()) for at in (start, stop))
        return LanguageInputs(
            self.inputs_embeds[:, start:stop],
            position_ids,
            self.image_mask[:, start:stop],
            tuple(features[first:last] for features in self.deepstack_features),
        )


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Output of one pass: the hidden states that `[SEG]` reads, (rows, tokens, hidden), and the logits of the
    next token, (rows, vocabulary)."""

    hidden_states: Tensor
    next_logits: Tensor


class Family(nn.Module, ABC):
    """A family's modules, under the names of transformers' own."""

    head_name: str
    """The parameter of the language model's head, which a checkpoint with tied embeddings may lack."""
    image_token_id = -1
    """Set by the loader from the tokenizer."""

    def __init__(self, config: Sa2vaConfig) -> None:
        super().__init__()
        self.config = config

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """The language model without its head."""

    @property
    @abstractmethod
    def head(self) -> nn.Linear:
        """The head of the language model."""

    @property
    def hidden_size(self) -> int:
        return int(self.config.language["hidden_size"])

    @property
    def layers(self) -> nn.ModuleList:
        """The language model's decoder layers."""
        return self.decoder.layers

    def tie_head(self) -> None:
        """Let the head share the weights of the token embeddings."""
        self.head.weight = self.decoder.embed_tokens.weight

    @abstractmethod
    def get_image_features(self, pictures: Sequence[Picture], *, video: bool, run: Run) -> ImageFeatures:
        """Run the vision encoder over an image (`video` False, tiled) or frames, a few at a time."""

    @abstractmethod
    def placeholders(self, features: ImageFeatures) -> str:
        """The text that stands for the pictures in the prompt."""

    @abstractmethod
    def embed(
        self, input_ids: Tensor, features: ImageFeatures | None, cells: Sequence[NDArray[np.int64]]
    ) -> LanguageInputs:
        """(1, tokens) ids → their embeddings, with visual tokens in their places; `cells` are the grid cells
        (row-major numbers) of each region."""

    def embed_tokens(self, input_ids: Tensor) -> Tensor:
        """(rows, tokens) ids of text → (rows, tokens, hidden)"""
        return self.decoder.embed_tokens(input_ids)

    def new_cache(self) -> DynamicCache:
        """An empty cache of keys and values."""
        return DynamicCache(config=self.decoder.config)

    def step(self, inputs: LanguageInputs, cache: DynamicCache) -> StepOutput:
        """Feed as many tokens to each row after what the cache holds."""
        deepstack = {
            "visual_pos_masks": inputs.image_mask,
            "deepstack_visual_embeds": list(inputs.deepstack_features),
        }
        output = self.decoder(
            inputs_embeds=inputs.inputs_embeds,
            position_ids=inputs.position_ids,
            attention_mask=inputs.attention_mask,
            use_cache=True,
            **cache_argument(self.decoder, cache),
            **(deepstack if inputs.deepstack_features else {}),
        )
        return self._make_output(output.last_hidden_state)

    def _make_output(self, hidden_states: Tensor) -> StepOutput:
        return StepOutput(hidden_states, self.head(hidden_states[:, -1]))


def insert_visual_tokens(embeddings: Tensor, image_mask: Tensor, tokens: Tensor) -> Tensor:
    """Embeddings (1, n, hidden) with `tokens` (m, hidden) where `image_mask` (1, n) is set.
    CheckpointMismatchError unless the mask has m places."""
    places = int(image_mask.sum())
    if places != len(tokens):
        raise CheckpointMismatchError(
            f"The prompt has {places} placeholders for {len(tokens)} visual tokens.",
            hint="The tokenizer does not belong to this checkpoint; download it again.",
        )
    return embeddings.masked_scatter(image_mask[..., None], tokens.to(embeddings.dtype))
