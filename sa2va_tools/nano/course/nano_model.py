"""The nano model during training: its sizes, its initial weights, and how it is saved as a checkpoint.

The sizes are a config.json in upstream's format: the classes that load the published checkpoints build the
model from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from sa2va_tools.model.checkpoints.config_file import parse_config
from sa2va_tools.model.checkpoints.loader import save_checkpoint
from sa2va_tools.model.families.internvl import InternVL
from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.nano.course.dense import DenseHeads
from sa2va_tools.nano.course.grounding_data import PROMPT_WIDTH
from sa2va_tools.nano.course.tokenizer import load_or_train_tokenizer, save_tokenizer, world_words
from sa2va_tools.nano.world.scenes import COLOURS, HELD_OUT_NAMES, MOTIONS, SHAPES, SIDE, SIZES
from sa2va_tools.training.device import CPU

_VISION_WIDTH = 96
_VISION_PATCH = 8
_LANGUAGE_WIDTH = 128
LLM_FRAMES = 5
_INIT_STD = 0.06
_REGION_CELL_SHARE = 0.15
"""How much of a cell a region must cover to be shown by it, if it covers none of the grid's sample points.
Training shows such regions by the cell that they cover most."""

_WORLD = (
    f"coloured shapes: {', '.join(COLOURS)}; {', '.join(SHAPES)}; {' and '.join(SIZES)}; "
    f"moving {', '.join(MOTIONS[:4])}, standing still or growing"
)
_VISION_CONFIG = {
    "architectures": ["InternVisionModel"],
    "model_type": "intern_vit_6b",
    "hidden_size": _VISION_WIDTH,
    "image_size": SIDE,
    "patch_size": _VISION_PATCH,
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
_LANGUAGE_CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 0,  # replaced by the tokenizer's
    "hidden_size": _LANGUAGE_WIDTH,
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
_SAM2_CONFIG = {
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


def nano_config(vocabulary_size: int) -> dict[str, Any]:
    """The contents of config.json."""
    return {
        "architectures": ["Sa2VAChatModel"],
        "model_type": "sa2va_chat",
        "template": "qwen_chat",
        "world": _WORLD,
        "world_words": list(world_words()),
        "held_out_pairs": [list(pair) for pair in HELD_OUT_NAMES],
        "key_frames": 1,
        "chat_frames": LLM_FRAMES,
        "region_cell_share": _REGION_CELL_SHARE,
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
        "vision_config": _VISION_CONFIG,
        "llm_config": _LANGUAGE_CONFIG | {"vocab_size": vocabulary_size},
        "grounding_config": _SAM2_CONFIG,
    }


@dataclass(frozen=True, slots=True)
class NanoModel:
    """The model with its throw-away heads and its tokenizer."""

    model: Sa2VA
    heads: DenseHeads
    tokenizer: Tokenizer


def build_nano(seed: int, folder: Path | None = None, device: torch.device = CPU) -> NanoModel:
    """The nano before any training, built on the CPU and moved to `device`. Its tokenizer is that of the run
    in `folder`, see `load_or_train_tokenizer`. Global random generators are left as they were."""
    tokenizer = load_or_train_tokenizer(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Sa2VA(parse_config(nano_config(tokenizer.get_vocab_size())))
        _init_sam2(model.sam2)
        _init_mllm(model.mllm)
        heads = DenseHeads(_VISION_WIDTH, _LANGUAGE_WIDTH)
    return NanoModel(model.to(device), heads.to(device), tokenizer)


def save_nano(nano: NanoModel, folder: Path) -> None:
    """Write a checkpoint in the published format, in half precision, without the throw-away heads."""
    save_tokenizer(nano.tokenizer, folder)
    save_checkpoint(nano.model, nano_config(nano.tokenizer.get_vocab_size()), folder, dtype=torch.float16)


# ---- initial weights: the library's own are too small for modules this narrow ---------------------


@torch.no_grad()
def _init_sam2(sam2: Sam2) -> None:
    """With the library's standard deviation of 0.02, the memory path weakens its signal about a hundredfold
    at a width of 64.

    So linear and convolution weights get 1/sqrt(fan-in), and the memory fuser is switched on. Cross-attention
    to memory starts out local: with equal biases of query and key, the rotary positions decide.
    """
    for part in (sam2.memory_attention, sam2.memory_encoder, sam2.mask_decoder):
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=fan_in**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    for layer in sam2.memory_attention.layers:
        layer.cross_attn_image.q_proj.bias.fill_(1.0)
        layer.cross_attn_image.k_proj.bias.fill_(1.0)
    for layer in sam2.memory_encoder.memory_fuser.layers:
        layer.scale.fill_(0.1)
    sam2.memory_temporal_positional_encoding.normal_(std=0.02)
    sam2.prompt_encoder.shared_embedding.positional_embedding.copy_(
        sam2.shared_image_embedding.positional_embedding
    )


@torch.no_grad()
def _init_mllm(mllm: InternVL) -> None:
    """Larger weights for narrow layers, sinusoidal position embeddings, and queries that match keys like
    themselves, so that attention starts out local."""
    for part in (mllm.vision_model, mllm.mlp1, mllm.language_model):
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_INIT_STD)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
    for module in mllm.mlp1:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    vision = mllm.vision_model
    vision.embeddings.patch_embeddings.projection.weight.normal_(std=0.04)
    positions = _sine_positions(SIDE // _VISION_PATCH, _VISION_WIDTH)
    vision.embeddings.position_embeddings[0, 1:] = 0.7 * positions
    identity = torch.eye(_VISION_WIDTH)
    for layer in vision.encoder.layer:
        layer.lambda_1.fill_(1.0)
        layer.lambda_2.fill_(1.0)
        for projection in (layer.attention.q_proj, layer.attention.k_proj):
            projection.weight.mul_(0.5).add_(identity)


def _sine_positions(side: int, width: int) -> Tensor:
    """(side², width): sines and cosines of column and row."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    steps = torch.arange(width // 4) / (width // 4)
    frequencies = 1.2 * 20.0**-steps
    parts = [f(axis.reshape(-1, 1) * frequencies) for axis in (columns, rows) for f in (torch.sin, torch.cos)]
    return torch.cat(parts, 1)
