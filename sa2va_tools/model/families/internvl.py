"""InternVL: InternViT, pixel shuffle, a two-layer projector, and one of several language models.

Follows bytedance/Sa2VA `projects/sa2va/hf/models/modeling_sa2va_chat.py` on transformers modules. InternLM2
is Llama with fused projections (its rotary positions rotate halves, as Llama's do), so none of its remote
code is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from sa2va_tools.errors import UnsupportedCheckpointError
from sa2va_tools.model.config import INTERNVL_LANGUAGE_FIELDS, INTERNVL_VISION_FIELDS, Sa2vaConfig
from sa2va_tools.model.families.base import Family, ImageFeatures, LanguageInputs, insert_visual_tokens
from sa2va_tools.model.key_mapping import Rule, move, split
from sa2va_tools.model.preprocessing.tiles import Picture, tile_pictures, vision_pixels
from sa2va_tools.model.text.prompts import picture_tokens
from sa2va_tools.run import Run

_VISION_RULES: tuple[Rule, ...] = (
    move("vision_model.embeddings.class_embedding", "mllm.vision_model.embeddings.cls_token"),
    move("vision_model.embeddings.position_embedding", "mllm.vision_model.embeddings.position_embeddings"),
    move(
        "vision_model.embeddings.patch_embedding.{p}",
        "mllm.vision_model.embeddings.patch_embeddings.projection.{p}",
    ),
    split(
        "vision_model.encoder.layers.{i}.attn.qkv.{p}",
        *(f"mllm.vision_model.encoder.layer.{{i}}.attention.{x}_proj.{{p}}" for x in "qkv"),
    ),
    *(
        move(f"vision_model.encoder.layers.{{i}}.{ours}", f"mllm.vision_model.encoder.layer.{{i}}.{theirs}")
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
    move("mlp1.{i}.{p}", "mllm.mlp1.{i}.{p}"),
)
"""Upstream key → key in `Sa2VA`; the fused qkv is cut in three along its rows."""

_UPSTREAM = "language_model."
_NATIVE = f"mllm.{_UPSTREAM}"
_LANGUAGE_MODELS: dict[str, tuple[type, type]] = {
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "internlm2": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
}
_DEFAULT_THETA = {"internlm2": 10_000.0, "llama": 10_000.0}
_INTERNLM2_NAMES = (
    ("model.tok_embeddings.weight", "model.embed_tokens.weight"),
    ("model.norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
    ("model.layers.{i}.attention.wo.{p}", "model.layers.{i}.self_attn.o_proj.{p}"),
    ("model.layers.{i}.feed_forward.w1.{p}", "model.layers.{i}.mlp.gate_proj.{p}"),
    ("model.layers.{i}.feed_forward.w3.{p}", "model.layers.{i}.mlp.up_proj.{p}"),
    ("model.layers.{i}.feed_forward.w2.{p}", "model.layers.{i}.mlp.down_proj.{p}"),
    ("model.layers.{i}.attention_norm.weight", "model.layers.{i}.input_layernorm.weight"),
    ("model.layers.{i}.ffn_norm.weight", "model.layers.{i}.post_attention_layernorm.weight"),
)
TILES_AT_ONCE = 8
"""Tiles or frames that go through the vision encoder together."""


def internvl_rules(config: Sa2vaConfig) -> tuple[Rule, ...]:
    """Upstream's parameter names → ours, of both encoders."""
    if config.llm != "internlm2":
        return (*_VISION_RULES, move(f"{_UPSTREAM}{{rest}}", f"{_NATIVE}{{rest}}"))
    groups = int(config.language["num_key_value_heads"])
    projections = (f"{_NATIVE}model.layers.{{i}}.self_attn.{x}_proj.{{p}}" for x in "qkv")
    return (
        *_VISION_RULES,
        *(move(_UPSTREAM + theirs, _NATIVE + ours) for theirs, ours in _INTERNLM2_NAMES),
        split(
            f"{_UPSTREAM}model.layers.{{i}}.attention.wqkv.{{p}}",
            *projections,
            groups=groups,  # each key-value head follows the query heads that share it
            shares=(int(config.language["num_attention_heads"]) // groups, 1, 1),
        ),
    )


class InternVL(Family):
    """The family's modules; see `Family` for the methods."""

    head_name = "mllm.language_model.lm_head.weight"

    def __init__(self, config: Sa2vaConfig) -> None:
        super().__init__(config)
        if config.raw.get("ps_version", "v2") != "v2":
            raise UnsupportedCheckpointError(
                f"The pixel shuffle version {config.raw['ps_version']!r} is not supported (only 'v2')."
            )
        self.vision_model = transformers.InternVLVisionModel(_vision_config(config))
        width = int(config.vision["hidden_size"] / config.downsample_ratio**2)
        hidden = int(config.language["hidden_size"])
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        config_class, model_class = _LANGUAGE_MODELS[config.llm]
        self.language_model: Any = model_class(config_class(**_make_language_arguments(config)))

    @property
    def decoder(self) -> Any:
        return self.language_model.model

    @property
    def head(self) -> nn.Linear:
        return self.language_model.lm_head

    def get_image_features(self, pictures: Sequence[Picture], *, video: bool, run: Run) -> ImageFeatures:
        """See `Family.get_image_features`. Upstream feeds its bfloat16 checkpoints in this module's dtype."""
        if video or not self.config.dynamic_tiles:
            groups = [[picture] for picture in pictures]
        else:
            groups = [self._split_into_tiles(picture) for picture in pictures]
        pixels = vision_pixels([tile for group in groups for tile in group], self.config.tile_size)
        weight = self.head.weight
        parts = []
        for part in torch.from_numpy(pixels).split(TILES_AT_ONCE):
            run.raise_if_cancelled()
            parts.append(self.visual_tokens(part.to(weight.device, weight.dtype)))
        return ImageFeatures(torch.cat(parts), tuple(map(len, groups)))

    def _split_into_tiles(self, picture: Picture) -> list[Picture]:
        config = self.config
        return tile_pictures(
            picture,
            config.tile_size,
            min_tiles=config.min_tiles,
            max_tiles=config.max_tiles,
            thumbnail=config.use_thumbnail,
        )

    def visual_tokens(self, pixels: Tensor) -> Tensor:
        """(n, 3, side, side) → (n, tokens per tile, hidden)."""
        patches = self.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
        return self.mlp1(pixel_shuffle(patches, self.config.downsample_ratio))

    def placeholders(self, features: ImageFeatures) -> str:
        return picture_tokens(features.tiles_per_picture, self.config.tokens_per_tile)

    def embed(
        self, input_ids: Tensor, features: ImageFeatures | None, cells: Sequence[NDArray[np.int64]]
    ) -> LanguageInputs:
        embeddings = self.embed_tokens(input_ids)
        if features is None:
            return LanguageInputs(embeddings)
        tokens = features.tokens.flatten(0, 1)
        if cells:
            # A region repeats tokens of the last tile: the thumbnail, which shows the whole picture.
            index = torch.from_numpy(np.concatenate(cells)).to(tokens.device)
            tokens = torch.cat([tokens, features.tokens[-1][index]])
        return LanguageInputs(insert_visual_tokens(embeddings, input_ids == self.image_token_id, tokens))


def pixel_shuffle(patches: Tensor, ratio: float) -> Tensor:
    """(n, side², c) → (n, (side·ratio)², c/ratio²): each block of patches becomes one token, its
    patches row by row along the channels (upstream's ps_version v2)."""
    count, total, channels = patches.shape
    side = int(total**0.5)
    block = round(1 / ratio)
    grid = patches.view(count, side // block, block, side // block, block, channels)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(count, (side // block) ** 2, block * block * channels)


def _vision_config(config: Sa2vaConfig) -> Any:
    vision = config.vision
    return transformers.InternVLVisionConfig(
        **{name: vision[name] for name in INTERNVL_VISION_FIELDS},
        attention_bias=vision.get("qkv_bias", True),
        use_qk_norm=vision.get("qk_normalization", False),
        norm_type=vision.get("norm_type", "layer_norm"),
        layer_norm_eps=vision.get("layer_norm_eps", 1e-6),
        hidden_act=vision.get("hidden_act", "gelu"),
        use_mean_pooling=True,
    )


def _make_language_arguments(config: Sa2vaConfig) -> dict[str, Any]:
    language = config.language
    arguments: dict[str, Any] = {
        **{name: language[name] for name in INTERNVL_LANGUAGE_FIELDS},
        "hidden_act": language.get("hidden_act", "silu"),
        "max_position_embeddings": language.get("max_position_embeddings", 32768),
        "rms_norm_eps": language.get("rms_norm_eps", 1e-6),
        "rope_parameters": _make_rope_parameters(language, _DEFAULT_THETA.get(config.llm, 1_000_000.0)),
        "tie_word_embeddings": config.tie_word_embeddings,
        "pad_token_id": None,
    }
    if config.llm in ("qwen2", "qwen3"):
        arguments["use_sliding_window"] = False
    if config.llm == "qwen3":
        arguments["head_dim"] = language.get("head_dim", 128)
    if config.llm != "qwen2":  # whose queries, keys and values always have a bias
        arguments["attention_bias"] = bool(language.get("attention_bias", language.get("bias", False)))
    return arguments


def _make_rope_parameters(language: Mapping[str, Any], theta: float) -> dict[str, Any]:
    """Older configs have `rope_scaling: {type, factor}` and `rope_theta`."""
    scaling = dict(language.get("rope_parameters") or language.get("rope_scaling") or {})
    scaling.setdefault("rope_type", scaling.pop("type", "default"))
    scaling.setdefault("rope_theta", language.get("rope_theta", theta))
    return scaling
