"""Qwen-VL: pictures keep their shape, and each of their tokens has a place in the text's positions.

What Qwen2.5-VL and Qwen3-VL share. Follows bytedance/Sa2VA `projects/sa2va/hf/models_qwen/
modeling_sa2va_qwen.py` on transformers modules; frames of a video are shown as so many images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from sa2va_tools.errors import CheckpointMismatchError, RequestError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.families.base import Embedded, StepOutput, VisualInput
from sa2va_tools.model.families.key_values import copied_states, states_bytes
from sa2va_tools.model.key_mapping import Rule, renamed
from sa2va_tools.model.patches import Patches, picture_patches
from sa2va_tools.model.preprocess import Picture
from sa2va_tools.model.prompt import IMAGE_PAD, VISION_END, VISION_START
from sa2va_tools.progress import CancelToken

KEY_RULES: tuple[Rule, ...] = (
    renamed("model.model.visual.{rest}", "mllm.visual.{rest}"),
    renamed("model.model.language_model.norm.weight", "mllm.norm.weight"),
    renamed("model.model.language_model.{rest}", "mllm.language_model.{rest}"),
    renamed("model.lm_head.weight", "mllm.lm_head.weight"),
    # The layout that transformers wrote before 4.52.
    renamed("model.visual.{rest}", "mllm.visual.{rest}"),
    renamed("model.model.norm.weight", "mllm.norm.weight"),
    renamed("model.model.{rest}", "mllm.language_model.{rest}"),
)


@dataclass(slots=True)
class QwenCache:
    """Keys and values, and the position that the next token of text has: pictures take fewer positions
    than tokens."""

    states: DynamicCache
    next_position: int = 0


class QwenVL(nn.Module):
    """The family's modules; see `Family` for the methods. `visual` and `text` are the version's own."""

    head_name = "mllm.lm_head.weight"
    region_grid = 0
    seg_reads_normed = True
    """Is the hidden state that `[SEG]` reads the one after the final norm?"""

    def __init__(self, config: Sa2vaConfig, visual: nn.Module, text: Any) -> None:
        super().__init__()
        self.config = config
        self.visual: Any = visual
        self.language_model: Any = text
        # The norm stands outside, so that the states before and after it are both at hand.
        self.norm: nn.Module = text.norm
        text.norm = nn.Identity()
        self.lm_head = nn.Linear(self.hidden_size, int(config.language["vocab_size"]), bias=False)
        self.image_token_id = -1
        """Set by the loader from the tokenizer."""

    @property
    def hidden_size(self) -> int:
        return int(self.config.language["hidden_size"])

    @property
    def layers(self) -> nn.ModuleList:
        layers: nn.ModuleList = self.language_model.layers
        return layers

    def tie_head(self) -> None:
        self.lm_head.weight = self.language_model.embed_tokens.weight

    # ---- pictures -----------------------------------------------------------------------------

    def look(
        self, pictures: Sequence[Picture], *, video: bool, cancel: CancelToken | None = None
    ) -> VisualInput:
        """See `Family.look`. Each picture by itself, at a size near its own, whatever `video` says."""
        seen = []
        for picture in pictures:
            if cancel is not None:
                cancel.raise_if_cancelled()
            patches = picture_patches(
                [picture],
                patch=int(self.config.vision["patch_size"]),
                merge=self._merge,
                mean=self.config.pixel_mean,
                std=self.config.pixel_std,
            )
            seen.append(self.visual_tokens(patches))
        return VisualInput(
            torch.cat([each.tokens for each in seen], 1),
            (1,) * len(seen),
            tuple(grid for each in seen for grid in each.grids),
            tuple(torch.cat(maps) for maps in zip(*(each.deep for each in seen), strict=True)),
        )

    def visual_tokens(self, patches: Patches) -> VisualInput:
        weight = self.lm_head.weight
        seen = self.visual(
            torch.from_numpy(patches.pixels).to(weight.device, weight.dtype),
            grid_thw=torch.tensor([(1, rows, columns) for rows, columns in patches.grids]).to(weight.device),
            return_dict=True,
        )
        grids = tuple((rows // self._merge, columns // self._merge) for rows, columns in patches.grids)
        deep = tuple(getattr(seen, "deepstack_features", None) or ())
        return VisualInput(seen.pooler_output[None], (1,) * len(grids), grids, deep)

    def placeholders(self, visual: VisualInput) -> str:
        return "".join(
            f"{VISION_START}{IMAGE_PAD * (rows * columns)}{VISION_END}" for rows, columns in visual.grids
        )

    @property
    def _merge(self) -> int:
        return int(self.config.vision.get("spatial_merge_size", 2))

    # ---- language -----------------------------------------------------------------------------

    def token_embeddings(self, input_ids: Tensor) -> Tensor:
        embeddings: Tensor = self.language_model.embed_tokens(input_ids)
        return embeddings

    def embed(
        self, input_ids: Tensor, visual: VisualInput | None, cells: Sequence[NDArray[np.int64]]
    ) -> Embedded:
        if cells:
            raise RequestError(
                "This checkpoint takes no region prompts: its family was not trained with them.",
                hint="Ask about a crop of the region, or use an InternVL checkpoint such as Sa2VA-4B.",
            )
        embeddings = self.token_embeddings(input_ids)
        if visual is None:
            return Embedded(embeddings)
        places = input_ids == self.image_token_id
        seen = visual.tokens.flatten(0, 1)
        if int(places.sum()) != len(seen):
            raise CheckpointMismatchError(
                f"The prompt has {int(places.sum())} places for {len(seen)} visual tokens.",
                hint="The tokenizer does not fit this checkpoint; download it again.",
            )
        return Embedded(
            embeddings.masked_scatter(places[..., None], seen.to(embeddings.dtype)),
            mrope_positions(places[0], visual.grids)[:, None],
            places,
            visual.deep,
        )

    def new_cache(self) -> QwenCache:
        return QwenCache(DynamicCache(config=self.language_model.config))

    def copied(self, cache: QwenCache, length: int) -> QwenCache:
        """What is read next must bring its positions along, as a prompt with pictures does."""
        return QwenCache(copied_states(cache.states, length))

    def cache_bytes(self, cache: QwenCache) -> int:
        return states_bytes(cache.states)

    def states_of(self, cache: QwenCache) -> DynamicCache:
        return cache.states

    def cache_of(self, states: DynamicCache) -> QwenCache:
        return QwenCache(states)

    def step(self, read: Embedded, cache: QwenCache) -> StepOutput:
        positions = read.positions
        if positions is None:
            line = torch.arange(read.tokens.shape[1], device=read.tokens.device)
            positions = line.expand(3, 1, -1) + cache.next_position
        output = self.step_all(replace(read, positions=positions), cache.states)
        cache.next_position = int(positions.max()) + 1
        return output.row(0)

    def step_all(self, read: Embedded, states: DynamicCache) -> StepOutput:
        output = self.language_model(
            inputs_embeds=read.tokens,
            position_ids=read.positions,
            attention_mask=read.seen,
            past_key_values=states,
            use_cache=True,
            **self._deep_arguments(read),
        )
        hidden = output.last_hidden_state
        normed = self.norm(hidden)
        return StepOutput(normed if self.seg_reads_normed else hidden, self.lm_head(normed[:, -1]))

    def _deep_arguments(self, read: Embedded) -> dict[str, Any]:
        return {}


def mrope_positions(pictured: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
    """(tokens,) bool, which are visual, and each picture's rows and columns → (3, tokens): time, row and
    column. Text counts on in all three; a picture starts where the text stands, and the text goes on after
    the longer of its sides (Qwen2-VL, arXiv 2409.12191, section 2.1)."""
    parts: list[Tensor] = []
    start, at = 0, 0
    for rows, columns in grids:
        first = at + int(pictured[at:].int().argmax())
        parts.append(torch.arange(first - at).expand(3, -1) + start)
        start += first - at
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        parts.append(torch.stack([torch.zeros_like(row), row, column]).flatten(1) + start)
        start += max(rows, columns)
        at = first + rows * columns
    parts.append(torch.arange(len(pictured) - at).expand(3, -1) + start)
    return torch.cat(parts, 1).to(pictured.device)
