"""Families of multimodal language models, by the name that a config gives them."""

from __future__ import annotations

from typing import Any

from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.key_mapping import Rule


def build_family(config: Sa2vaConfig) -> Any:
    """The modules of `config.family`: a `Family` that is a torch module. Imports that family alone."""
    match config.family:
        case "internvl":
            from sa2va_tools.model.families.internvl import InternVL

            return InternVL(config)
        case "qwen2_5_vl":
            from sa2va_tools.model.families.qwen2_5_vl import Qwen2p5VL

            return Qwen2p5VL(config)
        case "qwen3_vl":
            from sa2va_tools.model.families.qwen3_vl import Qwen3VL

            return Qwen3VL(config)


def family_rules(config: Sa2vaConfig) -> tuple[Rule, ...]:
    """Upstream's parameter names → ours, outside SAM-2."""
    if config.family == "internvl":
        from sa2va_tools.model.families.internvl import internvl_rules

        return internvl_rules(config)
    from sa2va_tools.model.families.qwen_vl import KEY_RULES

    return KEY_RULES
