"""InternVL: InternViT, pixel shuffle, a two-layer projector, and one of several language models.

Follows bytedance/Sa2VA `projects/sa2va/hf/models/modeling_sa2va_chat.py` on transformers modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, InternVLVisionConfig, InternVLVisionModel

from sa2va_tools.errors import CheckpointMismatchError, UnsupportedCheckpointError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.families.base import Embedded, StepOutput, VisualInput
from sa2va_tools.model.families.key_values import copied_states, states_bytes
from sa2va_tools.model.families.languages import language_model, language_rules
from sa2va_tools.model.key_mapping import Rule, renamed, split
from sa2va_tools.model.preprocess import Picture, tile_pictures, vision_pixels
from sa2va_tools.model.prompt import picture_tokens
from sa2va_tools.progress import CancelToken

_VISION_RULES: tuple[Rule, ...] = (
    renamed("vision_model.embeddings.class_embedding", "mllm.vision_model.embeddings.cls_token"),
    renamed("vision_model.embeddings.position_embedding", "mllm.vision_model.embeddings.position_embeddings"),
    renamed(
        "vision_model.embeddings.patch_embedding.{p}",
        "mllm.vision_model.embeddings.patch_embeddings.projection.{p}",
    ),
    split(
        "vision_model.encoder.layers.{i}.attn.qkv.{p}",
        *(f"mllm.vision_model.encoder.layer.{{i}}.attention.{x}_proj.{{p}}" for x in "qkv"),
    ),
    *(
        renamed(
            f"vision_model.encoder.layers.{{i}}.{ours}", f"mllm.vision_model.encoder.layer.{{i}}.{theirs}"
        )
        for ours, theirs in (
            ("attn.proj.{p}", "attention.projection_layer.{p}"),
            ("attn.q_norm.{p}", "attention.q_norm.{p}"),
            ("attn.k_norm.{p}", "attention.k_norm.{p}"),
            ("norm1.{p}", "layernorm_before.{p}"),
            ("norm2.{p}", "layernorm_after.{p}"),
            ("ls1", "lambda_1"),
            ("ls2", "lambda_2"),
            ("mlp.fc{j}.{p}", "mlp.fc{j}.{p}"),
        )
    ),
    renamed("mlp1.{i}.{p}", "mllm.mlp1.{i}.{p}"),
)
"""Upstream key → key in `Sa2VA`; the fused qkv is cut in three along its rows."""


TILES_AT_ONCE = 8
"""Tiles or frames that go through the vision encoder together."""


def internvl_rules(config: Sa2vaConfig) -> tuple[Rule, ...]:
    """Upstream's parameter names → ours, of both encoders."""
    return (*_VISION_RULES, *language_rules(config))


class InternVL(nn.Module):
    """The family's modules; see `Family` for the methods."""

    head_name = "mllm.language_model.lm_head.weight"

    def __init__(self, config: Sa2vaConfig) -> None:
        super().__init__()
        if config.raw.get("ps_version", "v2") != "v2":
            raise UnsupportedCheckpointError(
                f"The pixel shuffle version {config.raw['ps_version']!r} is not supported (only 'v2')."
            )
        self.config = config
        self.region_grid = config.region_grid
        self.vision_model = InternVLVisionModel(_vision_config(config))
        width = int(config.vision["hidden_size"] / config.downsample_ratio**2)
        hidden = int(config.language["hidden_size"])
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.language_model: Any = language_model(config)
        self.image_token_id = -1
        """Set by the loader from the tokenizer."""

    @property
    def hidden_size(self) -> int:
        return int(self.config.language["hidden_size"])

    @property
    def layers(self) -> nn.ModuleList:
        layers: nn.ModuleList = self.language_model.model.layers
        return layers

    def tie_head(self) -> None:
        self.language_model.lm_head.weight = self.language_model.get_input_embeddings().weight

    # ---- pictures -----------------------------------------------------------------------------

    def look(
        self, pictures: Sequence[Picture], *, video: bool, cancel: CancelToken | None = None
    ) -> VisualInput:
        """See `Family.look`. Upstream reads its bfloat16 checkpoints in this module's dtype."""
        if video or not self.config.dynamic_tiles:
            tiles, counts = list(pictures), [1] * len(pictures)
        else:
            tiles, counts = self._tiles(pictures)
        pixels = vision_pixels(tiles, self.config.tile_size)
        weight = self.language_model.get_input_embeddings().weight
        parts = []
        for part in torch.from_numpy(pixels).split(TILES_AT_ONCE):
            if cancel is not None:
                cancel.raise_if_cancelled()
            parts.append(self.visual_tokens(part.to(weight.device, weight.dtype)))
        return VisualInput(torch.cat(parts), tuple(counts))

    def _tiles(self, pictures: Sequence[Picture]) -> tuple[list[Picture], list[int]]:
        groups = [
            tile_pictures(
                picture,
                self.config.tile_size,
                min_tiles=self.config.min_tiles,
                max_tiles=self.config.max_tiles,
                thumbnail=self.config.use_thumbnail,
            )
            for picture in pictures
        ]
        return [tile for group in groups for tile in group], [len(group) for group in groups]

    def visual_tokens(self, pixels: Tensor) -> Tensor:
        """(n, 3, side, side) → (n, tokens per tile, hidden)."""
        patches = self.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
        return self.mlp1(pixel_shuffle(patches, self.config.downsample_ratio))

    def placeholders(self, visual: VisualInput) -> str:
        return picture_tokens(visual.tiles_per_picture, self.config.tokens_per_tile)

    # ---- language -----------------------------------------------------------------------------

    def token_embeddings(self, input_ids: Tensor) -> Tensor:
        embeddings: Tensor = self.language_model.get_input_embeddings()(input_ids)
        return embeddings

    def embed(
        self, input_ids: Tensor, visual: VisualInput | None, cells: Sequence[NDArray[np.int64]]
    ) -> Embedded:
        embeddings = self.token_embeddings(input_ids)
        if visual is None:
            return Embedded(embeddings)
        flat = visual.tokens.flatten(0, 1)
        if cells:
            # A region repeats the tokens of the last tile: the thumbnail, which sees it all.
            chosen = torch.from_numpy(np.concatenate(cells)).to(flat.device)
            flat = torch.cat([flat, visual.tokens[-1][chosen]])
        places = input_ids == self.image_token_id
        if int(places.sum()) != len(flat):
            raise CheckpointMismatchError(
                f"The prompt has {int(places.sum())} places for {len(flat)} visual tokens.",
                hint="The tokenizer does not fit this checkpoint; download it again.",
            )
        return Embedded(embeddings.masked_scatter(places[..., None], flat.to(embeddings.dtype)))

    def new_cache(self) -> DynamicCache:
        return DynamicCache(config=self.language_model.config)

    def copied(self, cache: DynamicCache, length: int) -> DynamicCache:
        return copied_states(cache, length)

    def cache_bytes(self, cache: DynamicCache) -> int:
        return states_bytes(cache)

    def states_of(self, cache: DynamicCache) -> DynamicCache:
        return cache

    def cache_of(self, states: DynamicCache) -> DynamicCache:
        return states

    def step(self, read: Embedded, cache: DynamicCache) -> StepOutput:
        return self.step_all(read, cache).row(0)

    def step_all(self, read: Embedded, states: DynamicCache) -> StepOutput:
        output = self.language_model.model(
            inputs_embeds=read.tokens,
            position_ids=read.positions,
            attention_mask=read.seen,
            past_key_values=states,
            use_cache=True,
        )
        hidden = output.last_hidden_state
        return StepOutput(hidden, self.language_model.lm_head(hidden[:, -1]))


def pixel_shuffle(patches: Tensor, ratio: float) -> Tensor:
    """(n, side², c) → (n, (side·ratio)², c/ratio²): each block of patches becomes one token, its
    patches row by row along the channels (upstream's ps_version v2)."""
    count, total, channels = patches.shape
    side, block = int(total**0.5), round(1 / ratio)
    grid = patches.view(count, side // block, block, side // block, block, channels)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(count, (side // block) ** 2, block * block * channels)


def _vision_config(config: Sa2vaConfig) -> InternVLVisionConfig:
    vision = config.vision
    return InternVLVisionConfig(
        hidden_size=vision["hidden_size"],
        num_hidden_layers=vision["num_hidden_layers"],
        num_attention_heads=vision["num_attention_heads"],
        intermediate_size=vision["intermediate_size"],
        attention_bias=vision.get("qkv_bias", True),
        use_qk_norm=vision.get("qk_normalization", False),
        norm_type=vision.get("norm_type", "layer_norm"),
        layer_norm_eps=vision.get("layer_norm_eps", 1e-6),
        hidden_act=vision.get("hidden_act", "gelu"),
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        use_mean_pooling=True,
    )
