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
from sa2va_tools.model.prompt import IMAGE_PAD, IMG_CONTEXT

FamilyName = Literal["internvl", "qwen2_5_vl", "qwen3_vl"]
PixelStatistics = tuple[tuple[float, ...], tuple[float, ...]]
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
    implementation: Literal["transformers", "sam2"] = Field(
        "transformers", description="Whose modules these are: chosen by the loader, not by a checkpoint."
    )
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

    family: FamilyName
    llm: str
    """`qwen2`, `qwen3`, `internlm2`, …: the language model beneath the family's vision encoder."""
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
    region_cell_share: float | None
    """How much of a cell a region between the grid's sample points must cover to be shown by that cell (see
    `regions.region_input`); None where the file says nothing, as in the published ones."""
    tie_word_embeddings: bool
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    """What the vision encoder's pixels are normalised with, RGB, of values 0 … 1."""
    world: str | None
    """Set for a model of a toy world: what it knows, for a warning to users."""
    world_words: frozenset[str]
    """All lower-case words that such a model was trained on; empty for a model of the real world."""
    raw: dict[str, Any]

    @property
    def family_name(self) -> str:
        return f"{self.family}+{self.llm}"

    @property
    def image_token(self) -> str:
        """The token that stands for a visual one in a prompt."""
        return IMG_CONTEXT if self.family == "internvl" else IMAGE_PAD

    @property
    def tokens_per_tile(self) -> int:
        """Visual tokens of one tile: (tile / patch × downsample)², 256 for the published models."""
        return self.region_grid**2

    @property
    def region_grid(self) -> int:
        """Side of the grid on which a region prompt selects visual tokens; 0 for families without them."""
        if self.family != "internvl":
            return 0
        return int(self.tile_size // int(self.vision["patch_size"]) * self.downsample_ratio)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            chat_image=True,
            chat_video=True,
            segment=True,
            ground=True,
            caption_region=self.region_grid > 0,
            second_decoder=self.grounding.separate_language_mask_decoder,
        )


def with_second_decoder(config: Sa2vaConfig, keys: Iterable[str]) -> Sa2vaConfig:
    """Published Sa2VA-i configs do not say that there is a second mask decoder; their keys do."""
    return two_decoders(config) if has_second_decoder(keys) else config


def has_second_decoder(keys: Iterable[str]) -> bool:
    """Do upstream's names show Sa2VA-i's fine-tuned decoder beside SAM-2's own?"""
    return any(".sam_mask_decoder_modified." in key for key in keys)


def with_implementation(config: Sa2vaConfig, name: str) -> Sa2vaConfig:
    """The same checkpoint on another implementation of SAM-2."""
    grounding = config.grounding.model_copy(update={"implementation": name})
    return replace(config, grounding=grounding)


def two_decoders(config: Sa2vaConfig) -> Sa2vaConfig:
    """The config of modules with a second mask decoder."""
    grounding = config.grounding.model_copy(update={"separate_language_mask_decoder": True})
    return replace(config, grounding=grounding)


FAMILY_LLMS: dict[FamilyName, tuple[str, ...]] = {
    "internvl": ("qwen2", "qwen3", "internlm2", "llama"),
    "qwen2_5_vl": ("qwen2",),
    "qwen3_vl": ("qwen3",),
}
"""The language models that each family is run with."""
_VISION_FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size"
)  # fmt: skip
_LANGUAGE_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads",
)  # fmt: skip
_LLM_OF = {
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "InternLM2ForCausalLM": "internlm2",
    "LlamaForCausalLM": "llama",
}
"""By architecture, for configs that do not name the model_type."""
_QWEN_TEXT_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
)  # fmt: skip
_QWEN_VISION_FIELDS = ("depth", "hidden_size", "num_heads", "patch_size")
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_PIXELS: dict[FamilyName, PixelStatistics] = {
    "internvl": _IMAGENET,
    "qwen2_5_vl": _CLIP,
    "qwen3_vl": _HALVES,
}
_QWEN_OUTER = ("vision_config", "architectures", "auto_map", "model_type", "grounding_config", "torch_dtype")
_AGAIN = "Download the checkpoint again."


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
    return parse_config(raw, source=str(path), pixels=_pixel_statistics(folder))


def _pixel_statistics(folder: Path) -> PixelStatistics | None:
    """Mean and standard deviation in preprocessor_config.json; None where it says nothing of them."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        mean, std = raw.get("image_mean"), raw.get("image_std")
        return None if mean is None or std is None else (tuple(map(float, mean)), tuple(map(float, std)))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be understood: {error}.", hint=_AGAIN) from error


def parse_config(
    raw: dict[str, Any], *, source: str = "config.json", pixels: PixelStatistics | None = None
) -> Sa2vaConfig:
    """Upstream's `Sa2VAChatConfig` dictionary as a typed config; raises as `read_config`. `pixels` are mean
    and standard deviation from the checkpoint's preprocessor file, if it has one."""
    _require_known_family(raw, source)
    try:
        return _parsed(raw, source, pixels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{source}: a field is missing or of a wrong type: {type(error).__name__} {error}.",
            hint="Download the checkpoint's config.json again.",
        ) from error


def _parsed(raw: dict[str, Any], source: str, pixels: PixelStatistics | None) -> Sa2vaConfig:
    try:
        grounding = GroundingConfig.model_validate(raw.get("grounding_config") or {})
    except ValidationError as error:
        raise CheckpointError(
            f"{source}: the block grounding_config is not understood: {error}.",
            hint="Compare its fields with sa2va_tools.model.config.GroundingConfig.",
        ) from error
    family = _family(raw)
    blocks = _internvl_blocks(raw, source) if family == "internvl" else _qwen_blocks(raw, family, source)
    mean, std = _PIXELS[family] if pixels is None or family == "internvl" else pixels
    key_frames = int(raw.get("key_frames", PUBLISHED_KEY_FRAMES))
    share = raw.get("region_cell_share")
    return Sa2vaConfig(
        family=family,
        llm=blocks.llm,
        vision=blocks.vision,
        language=blocks.language,
        grounding=grounding,
        template=str(raw.get("template") or "qwen_chat"),
        tile_size=int(raw.get("force_image_size") or blocks.vision.get("image_size") or 0),
        downsample_ratio=float(raw.get("downsample_ratio", 0.5)),
        dynamic_tiles=family == "internvl" and bool(raw.get("dynamic_image_size", True)),
        min_tiles=int(raw.get("min_dynamic_patch", 1)),
        max_tiles=int(raw.get("max_dynamic_patch", 12)),
        use_thumbnail=bool(raw.get("use_thumbnail", True)),
        key_frames=key_frames,
        chat_frames=int(raw.get("chat_frames", key_frames)),
        region_cell_share=None if share is None else float(share),
        tie_word_embeddings=blocks.tied,
        pixel_mean=mean,
        pixel_std=std,
        world=raw.get("world"),
        world_words=frozenset(raw.get("world_words", ())),
        raw=raw,
    )


@dataclass(frozen=True, slots=True)
class _Blocks:
    vision: dict[str, Any]
    language: dict[str, Any]
    llm: str
    tied: bool


def _internvl_blocks(raw: dict[str, Any], source: str) -> _Blocks:
    vision, language = raw["vision_config"], raw["llm_config"]
    architecture = (language.get("architectures") or ["unknown"])[0]
    llm = str(language.get("model_type") or _LLM_OF.get(architecture, architecture))
    if llm not in FAMILY_LLMS["internvl"]:
        raise UnsupportedCheckpointError(
            f"{source}: the language model family {llm!r} is not supported "
            f"(supported: {', '.join(FAMILY_LLMS['internvl'])}).",
            hint="`sa2va models` lists the checkpoints that run.",
        )
    _require(source, "vision_config", vision, _VISION_FIELDS)
    _require(source, "llm_config", language, _LANGUAGE_FIELDS)
    return _Blocks(vision, language, llm, bool(language.get("tie_word_embeddings", False)))


def _qwen_blocks(raw: dict[str, Any], family: FamilyName, source: str) -> _Blocks:
    """The text block, or the fields that older configs hold on their own level."""
    vision = raw["vision_config"]
    text = raw.get("text_config") or {name: value for name, value in raw.items() if name not in _QWEN_OUTER}
    _require(source, "vision_config", vision, _QWEN_VISION_FIELDS)
    _require(source, "text_config", text, _QWEN_TEXT_FIELDS)
    tied = bool(raw.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
    return _Blocks(vision, text, FAMILY_LLMS[family][0], tied)


def _require(source: str, block: str, found: dict[str, Any], wanted: Iterable[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise CheckpointError(
            f"{source}: {block} lacks {', '.join(missing)}.",
            hint="Download the checkpoint's config.json again.",
        )


def _family(raw: dict[str, Any]) -> FamilyName:
    if isinstance(raw.get("llm_config"), dict):
        return "internvl"
    vision = raw["vision_config"]
    kinds = f"{vision.get('model_type', '')} {(raw.get('text_config') or {}).get('model_type', '')}"
    return "qwen3_vl" if "qwen3" in kinds or "deepstack_visual_indexes" in vision else "qwen2_5_vl"


def _require_known_family(raw: dict[str, Any], source: str) -> None:
    model_type = str(raw.get("model_type", "unknown"))
    architectures = " ".join(map(str, raw.get("architectures") or []))
    if "sam3" in json.dumps(raw).lower():
        raise UnsupportedCheckpointError(
            f"{source}: this checkpoint uses a SAM-3 grounding encoder, which is not supported yet.",
            hint="Use a Sa2VA checkpoint with SAM-2.",
        )
    vision, language = raw.get("vision_config"), raw.get("llm_config")
    internvl = isinstance(vision, dict) and isinstance(language, dict)
    qwen = (isinstance(vision, dict) and "spatial_merge_size" in vision) or "Qwen" in architectures
    if model_type != "sa2va_chat" or not isinstance(vision, dict) or not (internvl or qwen):
        raise UnsupportedCheckpointError(
            f"{source}: model_type {model_type!r} ({architectures or 'no architecture'}) "
            "is not a Sa2VA checkpoint of a supported family.",
            hint="Supported: Sa2VA on InternVL or on Qwen-VL (model_type 'sa2va_chat').",
        )
