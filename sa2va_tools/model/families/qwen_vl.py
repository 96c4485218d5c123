"""Qwen2.5-VL and Qwen3-VL: pictures keep their shape, and their tokens have two-dimensional positions.

Follows bytedance/Sa2VA `projects/sa2va/hf/models_qwen/
modeling_sa2va_qwen.py` on transformers modules; the frames of a video are shown as separate images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sa2va_tools.errors import UnsupportedAbilityError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.families.base import (
    Family,
    ImageFeatures,
    LanguageInputs,
    StepOutput,
    insert_visual_tokens,
)
from sa2va_tools.model.key_mapping import Rule, move
from sa2va_tools.model.preprocessing.qwen_patches import Patches, make_patches
from sa2va_tools.model.preprocessing.tiles import Picture
from sa2va_tools.model.text.prompts import IMAGE_PAD, VISION_END, VISION_START
from sa2va_tools.run import Run

KEY_RULES: tuple[Rule, ...] = (
    move("model.model.visual.{rest}", "mllm.visual.{rest}"),
    move("model.model.language_model.norm.weight", "mllm.norm.weight"),
    move("model.model.language_model.{rest}", "mllm.language_model.{rest}"),
    move("model.lm_head.weight", "mllm.lm_head.weight"),
    # The layout that transformers wrote before 4.52.
    move("model.visual.{rest}", "mllm.visual.{rest}"),
    move("model.model.norm.weight", "mllm.norm.weight"),
    move("model.model.{rest}", "mllm.language_model.{rest}"),
)


class QwenVL(Family):
    """See `Family`."""

    head_name = "mllm.lm_head.weight"

    def __init__(self, config: Sa2vaConfig) -> None:
        super().__init__(config)
        self.visual, self.language_model = _build_encoder_and_decoder(config)
        # The norm is applied outside, so that the states before and after it are both available.
        self.norm: nn.Module = self.language_model.norm
        self.language_model.norm = nn.Identity()
        self.seg_reads_normed = config.family == "qwen2_5_vl"
        """Whether `[SEG]` reads the hidden state after the final norm. Qwen3-VL's was trained and run with a
        transformers whose `hidden_states[-1]` is the one before it."""
        self.lm_head = nn.Linear(self.hidden_size, int(config.language["vocab_size"]), bias=False)

    @property
    def decoder(self) -> Any:
        return self.language_model

    @property
    def head(self) -> nn.Linear:
        return self.lm_head

    def get_image_features(self, pictures: Sequence[Picture], *, video: bool, run: Run) -> ImageFeatures:
        """See `Family.get_image_features`. Each picture is taken at about its own size, also for videos."""
        found = []
        for picture in pictures:
            run.raise_if_cancelled()
            patches = make_patches(
                [picture],
                patch=int(self.config.vision["patch_size"]),
                merge=self._merge,
                mean=self.config.pixel_mean,
                std=self.config.pixel_std,
            )
            found.append(self.visual_tokens(patches))
        return ImageFeatures(
            torch.cat([each.tokens for each in found], 1),
            (1,) * len(found),
            tuple(grid for each in found for grid in each.grids),
            tuple(
                torch.cat(features)
                for features in zip(*(each.deepstack_features for each in found), strict=True)
            ),
        )

    def visual_tokens(self, patches: Patches) -> ImageFeatures:
        """Patches of some pictures → their visual tokens."""
        weight = self.lm_head.weight
        output = self.visual(
            torch.from_numpy(patches.pixels).to(weight.device, weight.dtype),
            grid_thw=torch.tensor([(1, rows, columns) for rows, columns in patches.grids]).to(weight.device),
            return_dict=True,
        )
        grids = tuple((rows // self._merge, columns // self._merge) for rows, columns in patches.grids)
        deepstack = tuple(getattr(output, "deepstack_features", None) or ())
        return ImageFeatures(output.pooler_output[None], (1,) * len(grids), grids, deepstack)

    def placeholders(self, features: ImageFeatures) -> str:
        return "".join(
            f"{VISION_START}{IMAGE_PAD * (rows * columns)}{VISION_END}" for rows, columns in features.grids
        )

    @property
    def _merge(self) -> int:
        return int(self.config.vision.get("spatial_merge_size", 2))

    def embed(
        self, input_ids: Tensor, features: ImageFeatures | None, cells: Sequence[NDArray[np.int64]]
    ) -> LanguageInputs:
        if cells:
            raise UnsupportedAbilityError(
                "This checkpoint does not support region prompts: its family was not trained with them.",
                hint="Ask about a crop of the region, or use an InternVL checkpoint such as Sa2VA-4B.",
            )
        embeddings = self.embed_tokens(input_ids)
        image_mask = input_ids == self.image_token_id
        if features is None:
            return LanguageInputs(embeddings, mrope_positions(image_mask[0], ())[:, None])
        return LanguageInputs(
            insert_visual_tokens(embeddings, image_mask, features.tokens.flatten(0, 1)),
            mrope_positions(image_mask[0], features.grids)[:, None],
            image_mask,
            features.deepstack_features,
        )

    def _make_output(self, hidden_states: Tensor) -> StepOutput:
        normed = self.norm(hidden_states)
        return StepOutput(normed if self.seg_reads_normed else hidden_states, self.head(normed[:, -1]))


def _build_encoder_and_decoder(config: Sa2vaConfig) -> tuple[Any, Any]:
    """Qwen3-VL adds features of several vision layers in the language model's first layers."""
    vision, text = (
        {name: value for name, value in block.items() if name != "model_type"}
        for block in (config.vision, config.language)
    )
    if config.family == "qwen2_5_vl":
        from transformers.models.qwen2_5_vl import configuration_qwen2_5_vl as configs
        from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as models

        encoder = models.Qwen2_5_VisionTransformerPretrainedModel(configs.Qwen2_5_VLVisionConfig(**vision))
        return encoder, models.Qwen2_5_VLTextModel(configs.Qwen2_5_VLTextConfig(**text))
    from transformers.models.qwen3_vl import configuration_qwen3_vl as configs
    from transformers.models.qwen3_vl import modeling_qwen3_vl as models

    encoder = models.Qwen3VLVisionModel(configs.Qwen3VLVisionConfig(**vision))
    return encoder, models.Qwen3VLTextModel(configs.Qwen3VLTextConfig(**text))


def mrope_positions(image_mask: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
    """(tokens,) bool, which tokens are visual, and each picture's rows and columns → (3, tokens): time, row
    and column. Text counts up in all three; a picture starts at the text's position, and the text continues
    after the longer of its sides (Qwen2-VL, arXiv 2409.12191, section 2.1)."""
    parts: list[Tensor] = []
    start = 0
    token = 0
    for rows, columns in grids:
        first = token + int(image_mask[token:].int().argmax())
        parts.append(torch.arange(first - token).expand(3, -1) + start)
        start += first - token
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        parts.append(torch.stack([torch.zeros_like(row), row, column]).flatten(1) + start)
        start += max(rows, columns)
        token = first + rows * columns
    parts.append(torch.arange(len(image_mask) - token).expand(3, -1) + start)
    return torch.cat(parts, 1).to(image_mask.device)
