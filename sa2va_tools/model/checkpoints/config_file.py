"""Read upstream's config.json into a `Sa2vaConfig`, and refuse models that are not supported."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sa2va_tools.errors import CheckpointError, CheckpointNotFoundError, UnsupportedCheckpointError
from sa2va_tools.model.config import (
    FAMILY_LLMS,
    INTERNVL_LANGUAGE_FIELDS,
    INTERNVL_VISION_FIELDS,
    PUBLISHED_PROMPT_FRAMES,
    FamilyName,
    Sa2vaConfig,
    Sam2Config,
)

PixelStatistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of R, G and B."""
_QWEN_VISION_FIELDS = ("depth", "hidden_size", "num_heads", "patch_size")
_QWEN_LANGUAGE_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
)  # fmt: skip
_QWEN_OUTER_FIELDS = (
    "vision_config", "architectures", "auto_map", "model_type", "grounding_config", "torch_dtype"
)  # fmt: skip
_LLM_BY_ARCHITECTURE = {
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "InternLM2ForCausalLM": "internlm2",
    "LlamaForCausalLM": "llama",
}
"""For configs without a model_type of the language model."""
_DEFAULT_PIXELS: dict[FamilyName, PixelStatistics] = {
    "internvl": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet's
    "qwen2_5_vl": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),  # CLIP's
    "qwen3_vl": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_DOWNLOAD_CONFIG = "Download the checkpoint's config.json again."
_DOWNLOAD_CHECKPOINT = "Download the checkpoint again."


def read_config(folder: Path) -> Sa2vaConfig:
    """The config of the checkpoint in `folder`.

    Raises CheckpointNotFoundError if there is no config.json, CheckpointError if it cannot be read or lacks
    fields, UnsupportedCheckpointError for a model that is not supported.
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
            f"{path} cannot be read as JSON: {error}.", hint=_DOWNLOAD_CHECKPOINT
        ) from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} does not hold a JSON object.", hint=_DOWNLOAD_CHECKPOINT)
    return parse_config(raw, source=str(path), pixels=_read_pixel_statistics(folder))


def _read_pixel_statistics(folder: Path) -> PixelStatistics | None:
    """From preprocessor_config.json; None if that has no mean or no standard deviation."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        mean = raw.get("image_mean")
        std = raw.get("image_std")
        return None if mean is None or std is None else (tuple(map(float, mean)), tuple(map(float, std)))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.", hint=_DOWNLOAD_CHECKPOINT) from error


def parse_config(
    raw: dict[str, Any], *, source: str = "config.json", pixels: PixelStatistics | None = None
) -> Sa2vaConfig:
    """Upstream's `Sa2VAChatConfig` dictionary as a typed config; raises like `read_config`. `source` is named
    in errors; `pixels` come from the checkpoint's preprocessor file, if it has one."""
    _require_supported_model(raw, source)
    try:
        return _parse_fields(raw, source, pixels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{source}: a field is missing or has the wrong type: {type(error).__name__} {error}.",
            hint=_DOWNLOAD_CONFIG,
        ) from error


def _parse_fields(raw: dict[str, Any], source: str, pixels: PixelStatistics | None) -> Sa2vaConfig:
    family = _detect_family(raw)
    vision, language, llm, tied = (
        _read_internvl_blocks(raw, source) if family == "internvl" else _read_qwen_blocks(raw, family, source)
    )
    mean, std = _DEFAULT_PIXELS[family] if pixels is None or family == "internvl" else pixels
    prompt_frames = int(raw.get("key_frames", PUBLISHED_PROMPT_FRAMES))
    share = raw.get("region_cell_share")
    return Sa2vaConfig(
        family=family,
        llm=llm,
        vision=vision,
        language=language,
        sam2=_parse_sam2_block(raw, source),
        template=str(raw.get("template") or "qwen_chat"),
        tile_size=int(raw.get("force_image_size") or vision.get("image_size") or 0),
        downsample_ratio=float(raw.get("downsample_ratio", 0.5)),
        dynamic_tiles=family == "internvl" and bool(raw.get("dynamic_image_size", True)),
        min_tiles=int(raw.get("min_dynamic_patch", 1)),
        max_tiles=int(raw.get("max_dynamic_patch", 12)),
        use_thumbnail=bool(raw.get("use_thumbnail", True)),
        prompt_frames=prompt_frames,
        llm_frames=int(raw.get("chat_frames", prompt_frames)),
        region_cell_share=None if share is None else float(share),
        tie_word_embeddings=tied,
        pixel_mean=mean,
        pixel_std=std,
        world=raw.get("world"),
        world_words=frozenset(raw.get("world_words", ())),
        raw=raw,
    )


def _parse_sam2_block(raw: dict[str, Any], source: str) -> Sam2Config:
    try:
        return Sam2Config.model_validate(raw.get("grounding_config") or {})
    except ValidationError as error:
        raise CheckpointError(
            f"{source}: the block grounding_config is wrong: {error}.",
            hint=_DOWNLOAD_CONFIG,
        ) from error


_Blocks = tuple[dict[str, Any], dict[str, Any], str, bool]
"""The config's blocks for the vision encoder and the language model, the name of the latter, and whether its
head shares the weights of the embeddings."""


def _read_internvl_blocks(raw: dict[str, Any], source: str) -> _Blocks:
    vision = raw["vision_config"]
    language = raw["llm_config"]
    architecture = (language.get("architectures") or ["unknown"])[0]
    llm = str(language.get("model_type") or _LLM_BY_ARCHITECTURE.get(architecture, architecture))
    if llm not in FAMILY_LLMS["internvl"]:
        raise UnsupportedCheckpointError(
            f"{source}: the language model {llm!r} is not supported "
            f"(supported: {', '.join(FAMILY_LLMS['internvl'])}).",
            hint="`sa2va models` lists the checkpoints that run.",
        )
    _require_fields(source, "vision_config", vision, INTERNVL_VISION_FIELDS)
    _require_fields(source, "llm_config", language, INTERNVL_LANGUAGE_FIELDS)
    return vision, language, llm, bool(language.get("tie_word_embeddings", False))


def _read_qwen_blocks(raw: dict[str, Any], family: FamilyName, source: str) -> _Blocks:
    """Older configs have the fields of the language model at the top level, without a block."""
    vision = raw["vision_config"]
    language = raw.get("text_config") or {
        name: value for name, value in raw.items() if name not in _QWEN_OUTER_FIELDS
    }
    _require_fields(source, "vision_config", vision, _QWEN_VISION_FIELDS)
    _require_fields(source, "text_config", language, _QWEN_LANGUAGE_FIELDS)
    tied = bool(raw.get("tie_word_embeddings", language.get("tie_word_embeddings", False)))
    return vision, language, FAMILY_LLMS[family][0], tied


def _require_fields(source: str, block: str, found: dict[str, Any], expected: Iterable[str]) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise CheckpointError(f"{source}: {block} lacks {', '.join(missing)}.", hint=_DOWNLOAD_CONFIG)


def _detect_family(raw: dict[str, Any]) -> FamilyName:
    if isinstance(raw.get("llm_config"), dict):
        return "internvl"
    vision = raw["vision_config"]
    model_types = f"{vision.get('model_type', '')} {(raw.get('text_config') or {}).get('model_type', '')}"
    return "qwen3_vl" if "qwen3" in model_types or "deepstack_visual_indexes" in vision else "qwen2_5_vl"


def _require_supported_model(raw: dict[str, Any], source: str) -> None:
    model_type = str(raw.get("model_type", "unknown"))
    architectures = " ".join(map(str, raw.get("architectures") or []))
    if "sam3" in json.dumps(raw).lower():
        raise UnsupportedCheckpointError(
            f"{source}: this checkpoint uses a SAM-3 grounding encoder, which is not supported yet.",
            hint="Use a Sa2VA checkpoint with SAM-2.",
        )
    vision = raw.get("vision_config")
    is_internvl = isinstance(raw.get("llm_config"), dict)
    is_qwen = (isinstance(vision, dict) and "spatial_merge_size" in vision) or "Qwen" in architectures
    if model_type != "sa2va_chat" or not isinstance(vision, dict) or not (is_internvl or is_qwen):
        raise UnsupportedCheckpointError(
            f"{source}: model_type {model_type!r} ({architectures or 'no architecture'}) "
            "is not a Sa2VA checkpoint of a supported family.",
            hint="Supported: Sa2VA on InternVL or on Qwen-VL (model_type 'sa2va_chat').",
        )
