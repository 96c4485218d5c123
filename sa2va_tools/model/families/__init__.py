"""Families of multimodal language models, by the name that a config gives them. Imports that family alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.key_mapping import Rule

if TYPE_CHECKING:
    from sa2va_tools.model.families.base import Family


def build_family(config: Sa2vaConfig) -> Family:
    """The modules of `config.family`."""
    if config.family == "internvl":
        from sa2va_tools.model.families.internvl import InternVL

        return InternVL(config)
    from sa2va_tools.model.families.qwen_vl import QwenVL

    return QwenVL(config)


def family_rules(config: Sa2vaConfig) -> tuple[Rule, ...]:
    """Upstream's parameter names → ours, outside SAM-2."""
    if config.family == "internvl":
        from sa2va_tools.model.families.internvl import internvl_rules

        return internvl_rules(config)
    from sa2va_tools.model.families.qwen_vl import KEY_RULES

    return KEY_RULES
