"""The language models beneath InternVL: their modules, their parameters' names, their configs.

Each is a causal language model of transformers. InternLM2 is Llama with fused projections (its rotary
positions are of the half-rotation kind, as Llama's), so nothing of its remote code is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.key_mapping import Rule, renamed, split

_UPSTREAM, _NATIVE = "language_model.", "mllm.language_model."
_KINDS: dict[str, tuple[type, type]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "internlm2": (LlamaConfig, LlamaForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
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


def language_model(config: Sa2vaConfig) -> nn.Module:
    """The causal language model that `config.llm` names, without weights of its own."""
    settings, model = _KINDS[config.llm]
    return cast(nn.Module, model(settings(**_arguments(config))))


def language_rules(config: Sa2vaConfig) -> tuple[Rule, ...]:
    """Upstream's parameter names → ours."""
    if config.llm != "internlm2":
        return (renamed(f"{_UPSTREAM}{{rest}}", f"{_NATIVE}{{rest}}"),)
    language = config.language
    heads, groups = int(language["num_attention_heads"]), int(language["num_key_value_heads"])
    projections = (f"{_NATIVE}model.layers.{{i}}.self_attn.{x}_proj.{{p}}" for x in "qkv")
    return (
        *(renamed(_UPSTREAM + theirs, _NATIVE + ours) for theirs, ours in _INTERNLM2_NAMES),
        split(
            f"{_UPSTREAM}model.layers.{{i}}.attention.wqkv.{{p}}",
            *projections,
            groups=groups,  # each key-value head lies behind the query heads that share it
            shares=(heads // groups, 1, 1),
        ),
    )


def _arguments(config: Sa2vaConfig) -> dict[str, Any]:
    language = config.language
    arguments: dict[str, Any] = {
        "vocab_size": language["vocab_size"],
        "hidden_size": language["hidden_size"],
        "intermediate_size": language["intermediate_size"],
        "num_hidden_layers": language["num_hidden_layers"],
        "num_attention_heads": language["num_attention_heads"],
        "num_key_value_heads": language["num_key_value_heads"],
        "hidden_act": language.get("hidden_act", "silu"),
        "max_position_embeddings": language.get("max_position_embeddings", 32768),
        "rms_norm_eps": language.get("rms_norm_eps", 1e-6),
        "rope_parameters": _rope(language, _DEFAULT_THETA.get(config.llm, 1_000_000.0)),
        "tie_word_embeddings": config.tie_word_embeddings,
        "pad_token_id": None,
    }
    if config.llm in ("qwen2", "qwen3"):
        arguments["use_sliding_window"] = False
    if config.llm == "qwen3":
        arguments["head_dim"] = language.get("head_dim", 128)
    if config.llm != "qwen2":  # there the bias of queries, keys and values is part of the architecture
        arguments["attention_bias"] = bool(language.get("attention_bias", language.get("bias", False)))
    return arguments


def _rope(language: Mapping[str, Any], theta: float) -> dict[str, Any]:
    """Old configs say `rope_scaling: {type, factor}` beside `rope_theta`."""
    scaling = dict(language.get("rope_parameters") or language.get("rope_scaling") or {})
    scaling.setdefault("rope_type", scaling.pop("type", "default"))
    scaling.setdefault("rope_theta", language.get("rope_theta", theta))
    return scaling
