"""The nano model's sizes as an upstream-format config, and how its weights start.

Everything is built through the same classes that load the published checkpoints.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sa2va_tools.model.families.internvl import InternVL
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.training.tokenizer import world_words
from sa2va_tools.training.world import COLOURS, HELD_OUT_NAMES, MOTIONS, SHAPES, SIDE, SIZES

PROMPT_WIDTH = 128
VISION_WIDTH = 96
VISION_PATCH = 8
LANGUAGE_WIDTH = 128
KEY_FRAMES = 1
CHAT_FRAMES = 5
REGION_CELL_SHARE = 0.15  # training shows a region between the sample points by the cell it covers most

WORLD = (
    f"coloured shapes: {', '.join(COLOURS)}; {', '.join(SHAPES)}; {' and '.join(SIZES)}; "
    f"moving {', '.join(MOTIONS[:4])}, standing still or growing"
)


def nano_config(vocabulary: int) -> dict[str, Any]:
    """The content of config.json; `vocabulary` is the number of tokens."""
    return {
        "architectures": ["Sa2VAChatModel"],
        "model_type": "sa2va_chat",
        "template": "qwen_chat",
        "world": WORLD,
        "world_words": list(world_words()),
        "held_out_pairs": [list(pair) for pair in HELD_OUT_NAMES],
        "key_frames": KEY_FRAMES,
        "chat_frames": CHAT_FRAMES,
        "region_cell_share": REGION_CELL_SHARE,
        "downsample_ratio": 0.5,
        "dynamic_image_size": False,
        "force_image_size": SIDE,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 1,
        "use_thumbnail": False,
        "ps_version": "v2",
        "select_layer": -1,
        "pad2square": False,
        "tie_word_embeddings": True,
        "dtype": "float16",
        "vision_config": _vision_config(),
        "llm_config": _language_config(vocabulary),
        "grounding_config": _grounding_config(),
    }


def _vision_config() -> dict[str, Any]:
    return {
        "architectures": ["InternVisionModel"],
        "model_type": "intern_vit_6b",
        "hidden_size": VISION_WIDTH,
        "image_size": SIDE,
        "patch_size": VISION_PATCH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "num_channels": 3,
        "qkv_bias": True,
        "qk_normalization": False,
        "norm_type": "layer_norm",
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "drop_path_rate": 0.0,
        "initializer_factor": 1.0,
        "initializer_range": 0.06,
        "use_flash_attn": False,
    }


def _language_config(vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": vocabulary,
        "hidden_size": LANGUAGE_WIDTH,
        "intermediate_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.06,
        "tie_word_embeddings": True,
    }


def _grounding_config() -> dict[str, Any]:
    return {
        "image_size": SIDE,
        "embed_dim": 16,
        "num_heads": 1,
        "stages": [1, 1, 3, 1],
        "global_att_blocks": [4],
        "window_pos_embed_bkg_spatial_size": [8, 8],
        "window_spec": [8, 4, 8, 8],
        "dim_per_stage": [16, 32, 64, 128],
        "heads_per_stage": [1, 2, 4, 4],
        "hidden_dim": PROMPT_WIDTH,
        "mem_dim": 64,
        "memory_attention_layers": 2,
        "memory_attention_ffn": 256,
        "mask_decoder_mlp_dim": 256,
        "mask_decoder_num_heads": 4,
        "iou_head_hidden_dim": 64,
        "memory_fuser_layers": 1,
        "memory_fuser_hidden_dim": 256,
        "patch_kernel": 5,
        "patch_stride": 2,
        "patch_padding": 2,
        "mlp_ratio": 2.0,
        "num_maskmem": 5,
        "max_object_pointers": 8,
        "dynamic_multimask_via_stability": False,
        "gate_masks": True,
    }


def start_grounding(grounding: Sam2Grounding) -> None:
    """Weights to train from: the library's own start starves modules this narrow.

    Its standard deviation of 0.02 weakens the memory path about a hundredfold at a width of 64, so linear
    and convolution weights get 1/sqrt(fan-in); the fuser is switched on; cross-attention to memory starts
    local (equal biases of query and key let the rotary positions decide).
    """
    for part in (grounding.memory_attention, grounding.memory_encoder, grounding.mask_decoder):
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=fan_in**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    with torch.no_grad():
        for layer in grounding.memory_attention.layers:
            layer.cross_attn_image.q_proj.bias.fill_(1.0)
            layer.cross_attn_image.k_proj.bias.fill_(1.0)
        for layer in grounding.memory_encoder.memory_fuser.layers:
            layer.scale.fill_(0.1)
        grounding.memory_temporal_positional_encoding.normal_(std=0.02)
        grounding.prompt_encoder.shared_embedding.positional_embedding.copy_(
            grounding.shared_image_embedding.positional_embedding
        )


def start_language(mllm: InternVL) -> None:
    """Vision and language weights to train from: wide enough a spread for narrow layers, positions that
    are waves from the start, and queries that look for keys like themselves (attention starts local)."""
    for part in (mllm.vision_model, mllm.mlp1, mllm.language_model):
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.06)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
    for module in mllm.mlp1:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    vision = mllm.vision_model
    with torch.no_grad():
        vision.embeddings.patch_embeddings.projection.weight.normal_(std=0.04)
        vision.embeddings.position_embeddings[0, 1:] = 0.7 * _waves(SIDE // VISION_PATCH, VISION_WIDTH)
        same = torch.eye(VISION_WIDTH)
        for layer in vision.encoder.layer:
            layer.lambda_1.fill_(1.0)
            layer.lambda_2.fill_(1.0)
            for projection in (layer.attention.q_proj, layer.attention.k_proj):
                projection.weight.mul_(0.5).add_(same)


def _waves(side: int, width: int) -> torch.Tensor:
    """(side², width): sines and cosines of column and row."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    steps = torch.arange(width // 4) / (width // 4)
    frequencies = 1.2 * 20.0**-steps
    parts = [f(axis.reshape(-1, 1) * frequencies) for axis in (columns, rows) for f in (torch.sin, torch.cos)]
    return torch.cat(parts, 1)
