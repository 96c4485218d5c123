"""How masks begin: the prompts of the conditioning frames, for each mode.

Sources: bytedance/Sa2VA `predict_forward` (mode `sa2va`), kumuji/Sa2VA-i (mode `sa2va-i`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from sa2va_tools.model.output import DEFAULT_MASK_OPTIONS
from sa2va_tools.model.sam2.modules import FrameFeatures, MaskPrediction, Sam2
from sa2va_tools.model.tracking.frame_features import EncodedFrame
from sa2va_tools.run import Run


@dataclass(frozen=True, slots=True)
class KeyFramePrediction:
    """A conditioning frame: what later frames remember of it, and what is returned for it."""

    remembered: MaskPrediction
    shown: MaskPrediction
    """Its scores are those of the prompt's own decoding, even if `remembered` is a mask prompt."""


class KeyFramePrompts(Protocol):
    """Prompts of N objects on every conditioning frame."""

    def __len__(self) -> int:
        """N"""

    def predict(self, sam2: Sam2, frame: EncodedFrame, part: slice) -> KeyFramePrediction:
        """Masks on that frame for some of the objects, without memory."""


@dataclass(frozen=True, slots=True)
class LanguagePrompts:
    """Mode `sa2va`: the (N, C) embeddings prompt the mask decoder on every conditioning frame."""

    embeddings: Tensor
    gate: bool = False

    def __len__(self) -> int:
        return len(self.embeddings)

    def predict(self, sam2: Sam2, frame: EncodedFrame, part: slice) -> KeyFramePrediction:
        prediction = _predict_from_language(sam2, frame.features, self.embeddings[part], gate=self.gate)
        return KeyFramePrediction(prediction, prediction)


@dataclass(frozen=True, slots=True)
class LanguageMaskPrompts:
    """Mode `sa2va-i`: the masks of the embeddings, binarised at the video's size, are mask prompts for plain
    SAM-2. `threshold` is the caller's: the binarised logits know no other than one half."""

    embeddings: Tensor
    run: Run
    gate: bool = False
    threshold: float = DEFAULT_MASK_OPTIONS.threshold

    def __len__(self) -> int:
        return len(self.embeddings)

    def predict(self, sam2: Sam2, frame: EncodedFrame, part: slice) -> KeyFramePrediction:
        first = _predict_from_language(sam2, frame.features, self.embeddings[part], gate=self.gate)
        # Sa2VA-i resizes in one step here, where Sa2VA's output takes two.
        masks = (_resize(row, frame.size_hw) > 0 for row in first.logits.split(1))
        prediction = _predict_from_masks(sam2, frame.features, masks, self.run)
        logits = self._adapt_to_threshold(prediction.logits, first.logits)
        shown = MaskPrediction(logits, prediction.pointer, first.object_logits)
        return KeyFramePrediction(prediction, shown)

    def _adapt_to_threshold(self, binary: Tensor, first: Tensor) -> Tensor:
        """Above one half the decoder's own logits may only shrink the mask, below it only extend it."""
        if self.threshold == DEFAULT_MASK_OPTIONS.threshold:
            return binary
        return torch.minimum(binary, first) if self.threshold > 0.5 else torch.maximum(binary, first)


@dataclass(frozen=True, slots=True)
class MaskPrompts:
    """(N, height, width) boolean masks given on the conditioning frame. They are moved to the device in
    groups, when they are needed."""

    masks: Tensor
    run: Run

    def __len__(self) -> int:
        return len(self.masks)

    def predict(self, sam2: Sam2, frame: EncodedFrame, part: slice) -> KeyFramePrediction:
        device = sam2.no_object_pointer.device
        masks = (mask.to(device) for mask in self.masks[part].split(1))
        prediction = _predict_from_masks(sam2, frame.features, masks, self.run)
        return KeyFramePrediction(prediction, prediction)


def _predict_from_language(
    sam2: Sam2, features: FrameFeatures, embeddings: Tensor, *, gate: bool
) -> MaskPrediction:
    prompt = sam2.language_prompt(embeddings)
    candidates = sam2.decode(features, sam2.embed_without_memory(features), prompt, language=True)
    return sam2.select_best_mask(candidates, gate=gate)


def _predict_from_masks(
    sam2: Sam2, features: FrameFeatures, masks: Iterable[Tensor], run: Run
) -> MaskPrediction:
    """`masks`, (1, height, width) booleans, are made one by one: each takes four bytes a pixel and more."""
    side = 4 * sam2.config.logit_side
    squares = []
    for mask in masks:
        run.raise_if_cancelled()
        square = F.interpolate(
            mask[:, None].float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )
        squares.append(square[:, 0] >= 0.5)
    return sam2.mask_as_output(features, torch.cat(squares).float())


def _resize(maps: Tensor, size_hw: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps[:, None].float(), size=size_hw, mode="bilinear", align_corners=False)[:, 0]
