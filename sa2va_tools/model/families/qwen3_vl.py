"""Qwen3-VL: features of several vision layers are added in the language model's first layers.

`[SEG]` reads the state BEFORE the final norm: the published code was trained and run with a transformers
whose `hidden_states[-1]` is that one.
"""

from __future__ import annotations

from typing import Any

from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig, Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel, Qwen3VLVisionModel

from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.families.base import Embedded
from sa2va_tools.model.families.qwen_vl import QwenVL


class Qwen3VL(QwenVL):
    """See `QwenVL`."""

    seg_reads_normed = False

    def __init__(self, config: Sa2vaConfig) -> None:
        vision = {name: value for name, value in config.vision.items() if name != "model_type"}
        text = {name: value for name, value in config.language.items() if name != "model_type"}
        super().__init__(
            config,
            Qwen3VLVisionModel(Qwen3VLVisionConfig(**vision)),
            Qwen3VLTextModel(Qwen3VLTextConfig(**text)),
        )

    def _deep_arguments(self, read: Embedded) -> dict[str, Any]:
        if not read.deep:
            return {}
        return {"visual_pos_masks": read.pictured, "deepstack_visual_embeds": list(read.deep)}
