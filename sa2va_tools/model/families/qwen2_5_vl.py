"""Qwen2.5-VL: windowed vision attention, Qwen2's language model."""

from __future__ import annotations

from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLTextModel,
)

from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.families.qwen_vl import QwenVL


class Qwen2p5VL(QwenVL):
    """See `QwenVL`."""

    def __init__(self, config: Sa2vaConfig) -> None:
        vision = {name: value for name, value in config.vision.items() if name != "model_type"}
        text = {name: value for name, value in config.language.items() if name != "model_type"}
        super().__init__(
            config,
            Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLVisionConfig(**vision)),
            Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**text)),
        )
