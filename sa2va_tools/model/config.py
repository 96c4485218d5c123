"""Upstream's config.json as typed values, and what a checkpoint with that config can do.

Reads JSON only; knows nothing of weights, and imports neither torch nor transformers.
Field names of the vision and language blocks are those of the published files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sa2va_tools.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    UnsupportedCheckpointError,
)

PUBLISHED_KEY_FRAMES = 5
"""Frames that the published code shows to the language model, whatever the length."""


class GroundingConfig(BaseModel):
    """Sizes of the SAM-2 inside. Absent fields mean SAM 2.0 Hiera-L, which upstream hard-codes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(1024, gt=0, description="Side of the square that frames are resized to.")
    embed_dim: int = 144
    num_heads: int = 2
    stages: tuple[int, ...] = (2, 6, 36, 4)
    global_att_blocks: tuple[int, ...] = (23, 33, 43)
    window_pos_embed_bkg_spatial_size: tuple[int, int] = (7, 7)
    window_spec: tuple[int, ...] = (8, 4, 16, 8)
    hidden_dim: int = 256
    mem_dim: int = 64
    memory_attention_layers: int = 4
    memory_attention_ffn: int = 2048
    mask_decoder_mlp_dim: int = 2048
    mask_decoder_num_heads: int = 8
    iou_head_hidden_dim: int = 256
    memory_fuser_layers: int = 2
    separate_language_mask_decoder: bool = Field(
        False, description="Sa2VA-i: a second mask decoder answers language prompts."
    )
    # Ours, for models smaller than SAM-2 in other ways; absent means SAM-2's value.
    patch_kernel: int = 7
    patch_stride: int = 4
    patch_padding: int = 3
    mlp_ratio: float = 4.0
    dim_per_stage: tuple[int, ...] | None = Field(None, description="None doubles per stage.")
    heads_per_stage: tuple[int, ...] | None = Field(None, description="None doubles per stage.")
    memory_fuser_hidden_dim: int | None = Field(None, description="None is four times hidden_dim.")
    num_maskmem: int = Field(7, description="Conditioning slot plus recent frames attended to.")
    max_object_pointers: int = 16
    dynamic_multimask_via_stability: bool = True
    gate_masks: bool = Field(
        False, description="Empty the mask where the object score is negative; published Sa2VA does not."
    )

    @property
    def stage_dims(self) -> tuple[int, ...]:
        return self.dim_per_stage or tuple(self.embed_dim * 2**i for i in range(len(self.stages)))

    @property
    def stage_heads(self) -> tuple[int, ...]:
        return self.heads_per_stage or tuple(self.num_heads * 2**i for i in range(len(self.stages)))

    @property
    def top_side(self) -> int:
        """Side of the coarsest feature map (stride 16 for a patch stride of 4)."""
        return self.image_size // (4 * self.patch_stride)

    @property
    def logit_side(self) -> int:
        """Side of the mask logits: four times the coarsest map."""
        return 4 * self.top_side


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a checkpoint can be asked for."""

    chat_image: bool
    chat_video: bool
    segment: bool
    ground: bool
    caption_region: bool
    second_decoder: bool


@dataclass(frozen=True, slots=True)
class Sa2vaConfig:
    """A checkpoint's config, as far as this package uses it."""

    family: Literal["internvl"]
    llm: str
    """`qwen2`, `qwen3`, `internlm2`, …: the model_type of the language model."""
    vision: dict[str, Any]
    language: dict[str, Any]
    grounding: GroundingConfig
    template: str
    tile_size: int
    """Side of one tile shown to the vision encoder (upstream's force_image_size)."""
    downsample_ratio: float
    dynamic_tiles: bool
    min_tiles: int
    max_tiles: int
    use_thumbnail: bool
    key_frames: int
    """Frames that condition SAM-2 in mode `sa2va`; 5 where the file says nothing."""
    chat_frames: int
    """Frames shown to the language model; the key frames where the file says nothing."""
    tie_word_embeddings: bool
    world: str | None
    """Set for a model of a toy world: what it knows, for a warning to users."""
    world_words: frozenset[str]
    """All lower-case words that such a model was trained on; empty for a model of the real world."""
    raw: dict[str, Any]

    @property
    def family_name(self) -> str:
        return f"{self.family}+{self.llm}"

    @property
    def tokens_per_tile(self) -> int:
        """Visual tokens of one tile: (tile / patch × downsample)², 256 for the published models."""
        return self.region_grid**2

    @property
    def region_grid(self) -> int:
        """Side of the grid on which a region prompt selects visual tokens."""
        return int(self.tile_size // int(self.vision["patch_size"]) * self.downsample_ratio)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            chat_image=True,
            chat_video=True,
            segment=True,
            ground=True,
            caption_region=True,
            second_decoder=self.grounding.separate_language_mask_decoder,
        )


def with_second_decoder(config: Sa2vaConfig, keys: Iterable[str]) -> Sa2vaConfig:
    """Published Sa2VA-i configs do not say that there is a second mask decoder; their keys do."""
    if not any(".sam_mask_decoder_modified." in key for key in keys):
        return config
    grounding = config.grounding.model_copy(update={"separate_language_mask_decoder": True})
    return replace(config, grounding=grounding)


SUPPORTED_LLMS = ("qwen2",)
_VISION_FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size"
)  # fmt: skip
_LANGUAGE_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads",
)  # fmt: skip
_LLM_OF = {"['Qwen2ForCausalLM']": "qwen2"}
"""By architecture, for configs that do not name the model_type."""


def read_config(folder: Path) -> Sa2vaConfig:
    """The config of the checkpoint in `folder`.

    Raises CheckpointNotFoundError without a config.json, CheckpointError where it is no JSON or
    lacks a block, UnsupportedCheckpointError for a family that is not run.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointNotFoundError(
            f"There is no config.json in {folder}.",
            hint="Give the folder of a Sa2VA checkpoint (config.json, *.safetensors, tokenizer), or 'nano'.",
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON: {error}.", hint="Download the checkpoint again."
        ) from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds no JSON object.", hint="Download the checkpoint again.")
    return parse_config(raw, source=str(path))


def parse_config(raw: dict[str, Any], *, source: str = "config.json") -> Sa2vaConfig:
    """Upstream's `Sa2VAChatConfig` dictionary as a typed config; raises as `read_config`."""
    _require_known_family(raw, source)
    try:
        return _parsed(raw, source)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{source}: a field is missing or of a wrong type: {type(error).__name__} {error}.",
            hint="Download the checkpoint's config.json again.",
        ) from error


def _parsed(raw: dict[str, Any], source: str) -> Sa2vaConfig:
    vision, language = raw["vision_config"], raw["llm_config"]
    llm = str(language.get("model_type") or _LLM_OF.get(str(language.get("architectures")), "unknown"))
    if llm not in SUPPORTED_LLMS:
        raise UnsupportedCheckpointError(
            f"{source}: the language model family {llm!r} is not supported yet "
            f"(supported: {', '.join(SUPPORTED_LLMS)}).",
            hint="Use an InternVL + Qwen2 checkpoint such as Sa2VA-1B or Sa2VA-4B.",
        )
    try:
        grounding = GroundingConfig.model_validate(raw.get("grounding_config") or {})
    except ValidationError as error:
        raise CheckpointError(
            f"{source}: the block grounding_config is not understood: {error}.",
            hint="Compare its fields with sa2va_tools.model.config.GroundingConfig.",
        ) from error
    missing = [name for name in _VISION_FIELDS if name not in vision]
    missing += [name for name in _LANGUAGE_FIELDS if name not in language]
    if missing:
        raise CheckpointError(
            f"{source}: vision_config and llm_config lack {', '.join(missing)}.",
            hint="Download the checkpoint's config.json again.",
        )
    key_frames = int(raw.get("key_frames", PUBLISHED_KEY_FRAMES))
    return Sa2vaConfig(
        family="internvl",
        llm=llm,
        vision=vision,
        language=language,
        grounding=grounding,
        template=str(raw.get("template", "qwen_chat")),
        tile_size=int(raw.get("force_image_size") or vision["image_size"]),
        downsample_ratio=float(raw.get("downsample_ratio", 0.5)),
        dynamic_tiles=bool(raw.get("dynamic_image_size", True)),
        min_tiles=int(raw.get("min_dynamic_patch", 1)),
        max_tiles=int(raw.get("max_dynamic_patch", 12)),
        use_thumbnail=bool(raw.get("use_thumbnail", True)),
        key_frames=key_frames,
        chat_frames=int(raw.get("chat_frames", key_frames)),
        tie_word_embeddings=bool(language.get("tie_word_embeddings", False)),
        world=raw.get("world"),
        world_words=frozenset(raw.get("world_words", ())),
        raw=raw,
    )


def _require_known_family(raw: dict[str, Any], source: str) -> None:
    model_type = str(raw.get("model_type", "unknown"))
    architectures = " ".join(map(str, raw.get("architectures") or []))
    if "sam3" in json.dumps(raw).lower():
        raise UnsupportedCheckpointError(
            f"{source}: this checkpoint uses a SAM-3 grounding encoder, which is not supported yet.",
            hint="Use a Sa2VA checkpoint with SAM-2.",
        )
    blocks = (raw.get("vision_config"), raw.get("llm_config"))
    if model_type != "sa2va_chat" or not all(isinstance(block, dict) for block in blocks):
        raise UnsupportedCheckpointError(
            f"{source}: model_type {model_type!r} ({architectures or 'no architecture'}) "
            "is not a Sa2VA checkpoint of a supported family.",
            hint="Supported now: InternVL + Qwen2 (model_type 'sa2va_chat').",
        )
