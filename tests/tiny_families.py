"""A small model with random weights of each family, for tests that need no trained model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sa2va_tools.model.checkpoints.config_file import parse_config
from sa2va_tools.model.families import build_family
from sa2va_tools.model.families.base import ImageFeatures
from sa2va_tools.run import Run

IMAGE_PAD = 60
TEXT = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
}
QWEN_CONFIGS = {
    "qwen2_5_vl": {
        "text_config": {**TEXT, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}},
        "vision_config": {
            "depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 4, "out_hidden_size": 64,
            "patch_size": 14, "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [1],
        },
    },
    "qwen3_vl": {
        "text_config": {
            **TEXT,
            "head_dim": 16,
            "rope_scaling": {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True},
        },
        "vision_config": {
            "depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 4, "out_hidden_size": 64,
            "patch_size": 16, "spatial_merge_size": 2, "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0],
        },
    },
}  # fmt: skip
LANGUAGES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "internlm2": "InternLM2ForCausalLM",
    "llama": "LlamaForCausalLM",
}
FAMILIES = (*LANGUAGES, *QWEN_CONFIGS)


def tiny_family(name):
    """The modules, in float32; InternVL's are named by their language model."""
    blocks = QWEN_CONFIGS.get(name) or {
        "llm_config": {**TEXT, "head_dim": 16, "architectures": [LANGUAGES[name]]},
        "vision_config": {
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 56, "patch_size": 14,
        },
        "force_image_size": 56,
    }  # fmt: skip
    config = parse_config({"model_type": "sa2va_chat", "tie_word_embeddings": False, **blocks})
    torch.manual_seed(2)
    family = build_family(config).eval()
    for parameter in family.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():  # no answer contains visual tokens
        family.get_parameter(family.head_name.removeprefix("mllm."))[IMAGE_PAD:] = 0
    family.image_token_id = IMAGE_PAD
    return family


def encode_noise(family, pictures=1):
    """The features of pictures of noise."""
    rng = np.random.default_rng(0)
    shown = [rng.integers(0, 256, (90 + 40 * n, 200, 3), dtype=np.uint8) for n in range(pictures)]
    with torch.inference_mode():
        return family.get_image_features(shown, video=True, run=Run())


def placeholder_ids(features: ImageFeatures) -> list[int]:
    """The token ids of the pictures' placeholders in a prompt."""
    if features.grids:
        return [id for rows, columns in features.grids for id in (61, *[IMAGE_PAD] * (rows * columns), 62)]
    return [IMAGE_PAD] * (features.tokens.shape[0] * features.tokens.shape[1])


@dataclass(frozen=True)
class Ids:
    """A tokenizer whose text is the numbers of its tokens."""

    seg_id: int = -1
    eos_id: int | None = None

    def decode(self, ids):
        return "".join(f" {number}" for number in ids)
