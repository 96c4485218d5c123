"""Configs of the published checkpoints, as far as their sizes go, so that memory is told before a download.

From the config.json of each; everything that does not change a size is left out.
"""

from __future__ import annotations

from typing import Any

from sa2va_tools.model.config import Sa2vaConfig, parse_config, two_decoders
from sa2va_tools.model.zoo import Published

_INTERN_VIT = {
    "InternViT-300M": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "image_size": 448, "patch_size": 14, "qkv_bias": True, "qk_normalization": False,
    },
    "InternViT-6B": {
        "hidden_size": 3200, "num_hidden_layers": 45, "num_attention_heads": 25, "intermediate_size": 12800,
        "image_size": 448, "patch_size": 14, "qkv_bias": False, "qk_normalization": True,
        "norm_type": "rms_norm",
    },
}  # fmt: skip
_QWEN_VISION = {
    "qwen2_5_vl": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
        "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "qwen3_vl": {
        "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16,
        "spatial_merge_size": 2, "deepstack_visual_indexes": [5, 11, 17], "num_position_embeddings": 2304,
    },
}  # fmt: skip
_LANGUAGE = {
    # hidden size, of the perceptron, layers, heads, key-value heads
    "Qwen2.5-0.5B": (896, 4864, 24, 14, 2),
    "Qwen2.5-1.5B": (1536, 8960, 28, 12, 2),
    "Qwen2.5-3B": (2048, 11008, 36, 16, 2),
    "Qwen2.5-7B": (3584, 18944, 28, 28, 4),
    "Qwen2.5-14B": (5120, 13824, 48, 40, 8),
    "InternLM2.5-7B": (4096, 14336, 32, 32, 8),
    "InternLM2.5-20B": (6144, 16384, 48, 48, 8),
    "Qwen3-1.7B": (2048, 6144, 28, 16, 8),
    "Qwen3-4B": (2560, 9728, 36, 32, 8),
}
_VOCABULARY = {"qwen2": 151_679, "internlm2": 92_558, "qwen3": 151_674}
_NAMES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)


def sizes_of(one: Published) -> Sa2vaConfig:
    """A config with that checkpoint's sizes."""
    language: dict[str, Any] = dict(zip(_NAMES, _LANGUAGE[one.language], strict=True))
    language |= {"model_type": one.llm, "vocab_size": _VOCABULARY[one.llm]}
    raw: dict[str, Any] = {"model_type": "sa2va_chat", "tie_word_embeddings": False}
    if one.family == "internvl":
        raw |= {"vision_config": _INTERN_VIT[one.vision], "llm_config": language}
    else:
        vision = _QWEN_VISION[one.family] | {"out_hidden_size": language["hidden_size"]}
        if one.family == "qwen3_vl":
            language["head_dim"] = 128
        raw |= {
            "vision_config": vision | {"model_type": one.family},
            "text_config": language | {"model_type": f"{one.family}_text"},
        }
    config = parse_config(raw, source=one.id)
    return two_decoders(config) if one.second_decoder else config
