"""A checkpoint's config as typed values, and what the checkpoint can do.

Knows nothing of files or weights, and imports neither torch nor transformers. Field names of the vision and
language blocks are those of the published files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FamilyName = Literal["internvl", "qwen2_5_vl", "qwen3_vl"]
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per value."""
PUBLISHED_PROMPT_FRAMES = 5
"""Frames that the published code shows to the language model, however long the video is."""
FAMILY_LLMS: dict[FamilyName, tuple[str, ...]] = {
    "internvl": ("qwen2", "qwen3", "internlm2", "llama"),
    "qwen2_5_vl": ("qwen2",),
    "qwen3_vl": ("qwen3",),
}
"""The language models that each family can have."""
INTERNVL_VISION_FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size"
)  # fmt: skip
INTERNVL_LANGUAGE_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads",
)  # fmt: skip
"""What the configs of InternVL checkpoints must have."""


class Sam2Config(BaseModel):
    """Sizes of the SAM-2 inside. Defaults are SAM 2.0 Hiera-L's, which upstream fixes in its code."""

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
    # Ours, for models that are smaller than SAM-2 in other ways; a missing field has SAM-2's value.
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
        False, description="Empty the mask if the object score is negative; published Sa2VA does not."
    )

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return self.dim_per_stage or tuple(self.embed_dim * 2**i for i in range(len(self.stages)))

    @property
    def stage_heads(self) -> tuple[int, ...]:
        """Attention heads of each stage."""
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
    """The part of a checkpoint's config that this package uses."""

    family: FamilyName
    llm: str
    """The language model of the family's vision encoder: `qwen2`, `qwen3`, `internlm2` or `llama`."""
    vision: dict[str, Any]
    language: dict[str, Any]
    sam2: Sam2Config
    template: str
    tile_size: int
    """Side of one tile shown to the vision encoder (upstream's force_image_size)."""
    downsample_ratio: float
    dynamic_tiles: bool
    min_tiles: int
    max_tiles: int
    use_thumbnail: bool
    prompt_frames: int
    """Frames on which masks begin, by default; 5 unless the file has another number (`key_frames`)."""
    llm_frames: int
    """Frames that the language model sees, by default; as many as `prompt_frames` unless the file has another
    number (`chat_frames`)."""
    region_cell_share: float | None
    """How much of a grid cell (0 … 1) a region without sample points must cover to be shown as this cell (see
    `prepare_region`); None, as published, for a model without such training."""
    tie_word_embeddings: bool
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    """With the mean, normalises the vision encoder's pixels: RGB, of values 0 … 1."""
    world: str | None
    """For a model of a toy world: what it knows, for a warning to users."""
    world_words: frozenset[str]
    """All lower-case words that such a model was trained on; empty for a model of the real world."""
    raw: dict[str, Any]
    """The whole config.json."""

    @property
    def family_name(self) -> str:
        return f"{self.family}+{self.llm}"

    @property
    def tokens_per_tile(self) -> int:
        """Visual tokens of one tile: (tile / patch × downsample)², 256 for the published models."""
        return self.region_grid**2

    @property
    def region_grid(self) -> int:
        """Side of the grid on which region prompts select visual tokens; 0 for families without them."""
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
            second_decoder=self.sam2.separate_language_mask_decoder,
        )


def detect_second_decoder(config: Sa2vaConfig, keys: Iterable[str]) -> Sa2vaConfig:
    """Published Sa2VA-i configs do not mention their second mask decoder; the names of their tensors do."""
    return add_second_decoder(config) if has_second_decoder(keys) else config


def has_second_decoder(keys: Iterable[str]) -> bool:
    """Whether upstream's names include Sa2VA-i's fine-tuned decoder in addition to SAM-2's own."""
    return any(".sam_mask_decoder_modified." in key for key in keys)


def add_second_decoder(config: Sa2vaConfig) -> Sa2vaConfig:
    """The same config with a second mask decoder."""
    sam2 = config.sam2.model_copy(update={"separate_language_mask_decoder": True})
    return replace(config, sam2=sam2)
