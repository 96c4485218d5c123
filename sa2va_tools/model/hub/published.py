"""The published checkpoints: what they consist of, how large they are, and the scores of their papers.

Numbers of parameters are those of the modules that their configs make. Scores are those of the papers (Sa2VA,
arXiv 2501.04001, table of models; Sa2VA-i, arXiv 2509.19082): cIoU on RefCOCO, RefCOCO+ and RefCOCOg val, J&F
on MeViS and Ref-DAVIS17. Uses neither files nor the network, so that memory can be estimated before a
download.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sa2va_tools.model.checkpoints.config_file import parse_config
from sa2va_tools.model.config import DTYPE_BYTES, Capabilities, FamilyName, Sa2vaConfig, add_second_decoder

_GIB = 2**30


_SCORE_NAMES = ("RefCOCO", "RefCOCO+", "RefCOCOg", "MeViS", "Ref-DAVIS17")


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """A checkpoint on the hub."""

    id: str
    parameters: float
    """In billions, including SAM-2 and the projection."""
    vision: str
    language: str
    score_values: tuple[float | None, ...] = ()

    @property
    def name(self) -> str:
        """The id without its owner."""
        return self.id.partition("/")[2]

    @property
    def family(self) -> FamilyName:
        return _QWEN_FAMILIES.get(self.vision, "internvl")

    @property
    def llm(self) -> str:
        """What configs call the language model."""
        return _LANGUAGE[self.language][0]

    @property
    def second_decoder(self) -> bool:
        return self.name.startswith("Sa2VA-i-")

    @property
    def scores(self) -> tuple[tuple[str, float], ...]:
        """(benchmark, score)"""
        pairs = zip(_SCORE_NAMES, self.score_values, strict=False)
        return tuple((name, value) for name, value in pairs if value is not None)

    @property
    def capabilities(self) -> Capabilities:
        return make_published_config(self).capabilities

    @property
    def disk_gib(self) -> float:
        """Of the published float32 files."""
        return self.weights_gib("float32")

    def weights_gib(self, dtype: str) -> float:
        """Of the weights alone, once they are loaded."""
        return self.parameters * 1e9 * DTYPE_BYTES[dtype] / _GIB


_ROWS: tuple[tuple[str, float, str, str, tuple[float | None, ...]], ...] = (
    ("ByteDance/Sa2VA-1B", 1.16, "InternViT-300M", "Qwen2.5-0.5B", (79.6, 73.6, 77.7, 53.4, 69.5)),
    ("ByteDance/Sa2VA-4B", 3.94, "InternViT-300M", "Qwen2.5-3B", (82.4, 77.6, 79.7, 55.9, 73.7)),
    ("ByteDance/Sa2VA-8B", 8.32, "InternViT-300M", "InternLM2.5-7B", (82.6, 78.0, 80.3, 58.9, 75.9)),
    ("ByteDance/Sa2VA-26B", 25.8, "InternViT-6B", "InternLM2.5-20B", (82.9, 79.3, 81.2, 61.8, 78.6)),
    ("ByteDance/Sa2VA-InternVL3-2B", 2.32, "InternViT-300M", "Qwen2.5-1.5B", (81.4, 75.7, 80.3, 53.9, 74.5)),
    ("ByteDance/Sa2VA-InternVL3-8B", 8.18, "InternViT-300M", "Qwen2.5-7B", (83.3, 78.9, 81.8, 56.4, 76.3)),
    ("ByteDance/Sa2VA-InternVL3-14B", 15.4, "InternViT-300M", "Qwen2.5-14B", (83.6, 79.9, 83.6, 59.2, 76.6)),
    ("ByteDance/Sa2VA-Qwen2_5-VL-3B", 4.3, "Qwen2.5-VL", "Qwen2.5-3B", (79.6, 74.0, 77.1, 51.6, 73.4)),
    ("ByteDance/Sa2VA-Qwen2_5-VL-7B", 8.5, "Qwen2.5-VL", "Qwen2.5-7B", (82.4, 77.5, 81.5, 56.4, 79.4)),
    ("ByteDance/Sa2VA-Qwen3-VL-2B", 2.7, "Qwen3-VL", "Qwen3-1.7B", ()),
    ("ByteDance/Sa2VA-Qwen3-VL-4B", 5.1, "Qwen3-VL", "Qwen3-4B", (81.7, 77.4, 80.0, 57.1, 75.9)),
    ("kumuji/Sa2VA-i-1B", 1.17, "InternViT-300M", "Qwen2.5-0.5B", (None, None, None, 52.6, 73.6)),
    ("kumuji/Sa2VA-i-4B", 3.95, "InternViT-300M", "Qwen2.5-3B", (None, None, None, 56.6, 78.6)),
    ("kumuji/Sa2VA-i-8B", 8.33, "InternViT-300M", "InternLM2.5-7B", (None, None, None, 59.5, 79.1)),
    ("kumuji/Sa2VA-i-26B", 25.8, "InternViT-6B", "InternLM2.5-20B", (None, None, None, 63.2, 81.2)),
)
PUBLISHED_CHECKPOINTS = tuple(PublishedCheckpoint(*row) for row in _ROWS)


def find_published(model: str) -> PublishedCheckpoint | None:
    """The checkpoint with that id, or name without owner, in upper or lower case; None if there is none."""
    wanted = model.lower()
    return next(
        (each for each in PUBLISHED_CHECKPOINTS if wanted in (each.id.lower(), each.name.lower())), None
    )


_INTERN_VIT: dict[str, dict[str, Any]] = {
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
_QWEN_FAMILIES: dict[str, FamilyName] = {"Qwen2.5-VL": "qwen2_5_vl", "Qwen3-VL": "qwen3_vl"}
_QWEN_VISION: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
        "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "qwen3_vl": {
        "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16,
        "spatial_merge_size": 2, "deepstack_visual_indexes": [5, 11, 17], "num_position_embeddings": 2304,
    },
}  # fmt: skip
_LANGUAGE: dict[str, tuple[str, int, int, int, int, int]] = {
    "Qwen2.5-0.5B": ("qwen2", 896, 4864, 24, 14, 2),
    "Qwen2.5-1.5B": ("qwen2", 1536, 8960, 28, 12, 2),
    "Qwen2.5-3B": ("qwen2", 2048, 11008, 36, 16, 2),
    "Qwen2.5-7B": ("qwen2", 3584, 18944, 28, 28, 4),
    "Qwen2.5-14B": ("qwen2", 5120, 13824, 48, 40, 8),
    "InternLM2.5-7B": ("internlm2", 4096, 14336, 32, 32, 8),
    "InternLM2.5-20B": ("internlm2", 6144, 16384, 48, 48, 8),
    "Qwen3-1.7B": ("qwen3", 2048, 6144, 28, 16, 8),
    "Qwen3-4B": ("qwen3", 2560, 9728, 36, 32, 8),
}
"""The name in configs, then the values of `_LANGUAGE_FIELDS`."""
_VOCABULARY_SIZE = {"qwen2": 151_679, "internlm2": 92_558, "qwen3": 151_674}
_LANGUAGE_FIELDS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
)  # fmt: skip


def make_published_config(checkpoint: PublishedCheckpoint) -> Sa2vaConfig:
    """A config with the sizes of that checkpoint."""
    sizes = _LANGUAGE[checkpoint.language][1:]
    language: dict[str, Any] = dict(zip(_LANGUAGE_FIELDS, sizes, strict=True))
    language |= {"model_type": checkpoint.llm, "vocab_size": _VOCABULARY_SIZE[checkpoint.llm]}
    raw: dict[str, Any] = {"model_type": "sa2va_chat", "tie_word_embeddings": False}
    if checkpoint.family == "internvl":
        raw |= {"vision_config": _INTERN_VIT[checkpoint.vision], "llm_config": language}
    else:
        vision = _QWEN_VISION[checkpoint.family] | {"out_hidden_size": language["hidden_size"]}
        if checkpoint.family == "qwen3_vl":
            language["head_dim"] = 128
        raw |= {
            "vision_config": vision | {"model_type": checkpoint.family},
            "text_config": language | {"model_type": f"{checkpoint.family}_text"},
        }
    config = parse_config(raw, source=checkpoint.id)
    return add_second_decoder(config) if checkpoint.second_decoder else config
