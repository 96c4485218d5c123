"""The published checkpoints: what they are made of, how large they are, and what their authors measured.

Numbers of parameters are those of the modules that their configs make; scores are the papers' own (Sa2VA,
arXiv 2501.04001, table of models; Sa2VA-i, arXiv 2509.19082): cIoU on RefCOCO, RefCOCO+ and RefCOCOg val, J&F
on MeViS and Ref-DAVIS17. Knows no file and no network.
"""

from __future__ import annotations

from dataclasses import dataclass

from sa2va_tools.model.config import Capabilities, FamilyName

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint on the hub. `parameters` in billions; those of SAM-2 and the projection are among them."""

    id: str
    family: FamilyName
    llm: str
    parameters: float
    vision: str
    language: str
    second_decoder: bool = False
    scores: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        return self.id.partition("/")[2]

    @property
    def abilities(self) -> Capabilities:
        return Capabilities(
            chat_image=True,
            chat_video=True,
            segment=True,
            ground=True,
            caption_region=self.family == "internvl",
            second_decoder=self.second_decoder,
        )

    @property
    def disk_gib(self) -> float:
        """Of the float32 files that were published."""
        return self.parameters * 1e9 * BYTES["float32"] / _GIB

    def weights_gib(self, dtype: str) -> float:
        """Of the weights alone, once loaded."""
        return self.parameters * 1e9 * BYTES[dtype] / _GIB


def _scores(*values: float | None) -> tuple[tuple[str, float], ...]:
    names = ("RefCOCO", "RefCOCO+", "RefCOCOg", "MeViS", "Ref-DAVIS17")
    return tuple((name, value) for name, value in zip(names, values, strict=True) if value is not None)


_SMALL, _LARGE = "InternViT-300M", "InternViT-6B"
ZOO: tuple[Published, ...] = (
    Published("ByteDance/Sa2VA-1B", "internvl", "qwen2", 1.16, _SMALL, "Qwen2.5-0.5B",
              scores=_scores(79.6, 73.6, 77.7, 53.4, 69.5)),
    Published("ByteDance/Sa2VA-4B", "internvl", "qwen2", 3.94, _SMALL, "Qwen2.5-3B",
              scores=_scores(82.4, 77.6, 79.7, 55.9, 73.7)),
    Published("ByteDance/Sa2VA-8B", "internvl", "internlm2", 8.32, _SMALL, "InternLM2.5-7B",
              scores=_scores(82.6, 78.0, 80.3, 58.9, 75.9)),
    Published("ByteDance/Sa2VA-26B", "internvl", "internlm2", 25.8, _LARGE, "InternLM2.5-20B",
              scores=_scores(82.9, 79.3, 81.2, 61.8, 78.6)),
    Published("ByteDance/Sa2VA-InternVL3-2B", "internvl", "qwen2", 2.32, _SMALL, "Qwen2.5-1.5B",
              scores=_scores(81.4, 75.7, 80.3, 53.9, 74.5)),
    Published("ByteDance/Sa2VA-InternVL3-8B", "internvl", "qwen2", 8.18, _SMALL, "Qwen2.5-7B",
              scores=_scores(83.3, 78.9, 81.8, 56.4, 76.3)),
    Published("ByteDance/Sa2VA-InternVL3-14B", "internvl", "qwen2", 15.4, _SMALL, "Qwen2.5-14B",
              scores=_scores(83.6, 79.9, 83.6, 59.2, 76.6)),
    Published("ByteDance/Sa2VA-Qwen2_5-VL-3B", "qwen2_5_vl", "qwen2", 4.3, "Qwen2.5-VL", "Qwen2.5-3B",
              scores=_scores(79.6, 74.0, 77.1, 51.6, 73.4)),
    Published("ByteDance/Sa2VA-Qwen2_5-VL-7B", "qwen2_5_vl", "qwen2", 8.5, "Qwen2.5-VL", "Qwen2.5-7B",
              scores=_scores(82.4, 77.5, 81.5, 56.4, 79.4)),
    Published("ByteDance/Sa2VA-Qwen3-VL-2B", "qwen3_vl", "qwen3", 2.7, "Qwen3-VL", "Qwen3-1.7B"),
    Published("ByteDance/Sa2VA-Qwen3-VL-4B", "qwen3_vl", "qwen3", 5.1, "Qwen3-VL", "Qwen3-4B",
              scores=_scores(81.7, 77.4, 80.0, 57.1, 75.9)),
    Published("kumuji/Sa2VA-i-1B", "internvl", "qwen2", 1.17, _SMALL, "Qwen2.5-0.5B", second_decoder=True,
              scores=_scores(None, None, None, 52.6, 73.6)),
    Published("kumuji/Sa2VA-i-4B", "internvl", "qwen2", 3.95, _SMALL, "Qwen2.5-3B", second_decoder=True,
              scores=_scores(None, None, None, 56.6, 78.6)),
    Published("kumuji/Sa2VA-i-8B", "internvl", "internlm2", 8.33, _SMALL, "InternLM2.5-7B",
              second_decoder=True, scores=_scores(None, None, None, 59.5, 79.1)),
    Published("kumuji/Sa2VA-i-26B", "internvl", "internlm2", 25.8, _LARGE, "InternLM2.5-20B",
              second_decoder=True, scores=_scores(None, None, None, 63.2, 81.2)),
)  # fmt: skip


def published(model: str) -> Published | None:
    """The checkpoint of that id, or of that name without its owner, whatever the case; None if there is
    none."""
    wanted = model.lower()
    return next((one for one in ZOO if wanted in (one.id.lower(), one.name.lower())), None)
