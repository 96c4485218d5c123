"""The published procedure, step by step, on our modules and weights.

bytedance/Sa2VA `predict_forward` and its `language_embd_inference`: for each `[SEG]`, the prompt frames are
encoded and prompted, then the video is propagated and each frame is encoded once more. All frames stay on the
device, and so do all states of an object and its masks at full size until it is done. There are no batches
and there is no cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sa2va_tools.model.preprocessing.tiles import sam2_pixels
from sa2va_tools.model.sam2.modules import FrameFeatures, FrameMemory, MaskCandidates, MaskPrediction, Sam2
from sa2va_tools.model.tracking.memory_bank import MemoryBank

PROMPT_FRAMES = 5
"""Masks begin on the first frames of the clip."""


class PublishedTracking:
    """Masks of prompt embeddings as the published code makes them."""

    def __init__(self, sam2: Sam2) -> None:
        self.sam2 = sam2
        self.encoder_passes = 0
        """Of the last call."""
        self._logits: list[Tensor] = []

    @torch.inference_mode()
    def track(self, pictures: Sequence[NDArray[np.uint8]], embeddings: Tensor) -> list[NDArray[np.bool_]]:
        """(frames, height, width) for each object."""
        self.encoder_passes = 0
        image_size = self.sam2.config.image_size
        like = self.sam2.no_object_pointer
        pixels = torch.from_numpy(sam2_pixels(list(pictures), image_size))
        pixels = pixels.to(like.device, like.dtype)
        self._logits = []
        masks = []
        for embedding in embeddings:
            logits = self._track_object(pixels, embedding[None])
            full_size = _enlarge(logits, image_size, pictures[0].shape[:2])
            masks.append((full_size > 0).cpu().numpy())
            self._logits.append(logits.cpu())
        return masks

    @property
    def logits(self) -> Tensor:
        """(objects, frames, 4s, 4s) of the last call, on the CPU."""
        return torch.stack(self._logits)

    def _track_object(self, pixels: Tensor, embedding: Tensor) -> Tensor:
        """(frames, 4s, 4s)"""
        logits: dict[int, Tensor] = {}
        conditioning = self._prompt_frames(pixels, embedding, logits)
        config = self.sam2.config
        bank = MemoryBank(config.num_maskmem, config.max_object_pointers, conditioning)
        states: list[FrameMemory] = []  # the published code drops none, even if no frame can reach it
        for position in range(len(pixels)) if len(pixels) > 1 else ():
            features = self._encode(pixels[position])
            if position in conditioning:
                continue
            embedded = self.sam2.attend(features, bank.memories(position, 1), bank.pointers(position, 1))
            candidates = self.sam2.decode(features, embedded, self.sam2.empty_prompt(1))
            prediction, memory = self._select_and_remember(features, candidates)
            states.append(memory)
            bank.add(position, memory)
            logits[position] = prediction.logits
        return torch.cat([logits[position] for position in range(len(pixels))]).float()

    def _prompt_frames(
        self, pixels: Tensor, embedding: Tensor, logits: dict[int, Tensor]
    ) -> dict[int, FrameMemory]:
        """Memories of the prompt frames, also of a clip in which no later frame attends to them."""
        conditioning = {}
        for position in range(min(PROMPT_FRAMES, len(pixels))):
            features = self._encode(pixels[position])
            embedded = self.sam2.embed_without_memory(features)
            prompt = self.sam2.language_prompt(embedding)
            candidates = self.sam2.decode(features, embedded, prompt, language=True)
            prediction, conditioning[position] = self._select_and_remember(features, candidates)
            logits[position] = prediction.logits
        return conditioning

    def _select_and_remember(
        self, features: FrameFeatures, candidates: MaskCandidates
    ) -> tuple[MaskPrediction, FrameMemory]:
        prediction = self.sam2.select_best_mask(candidates, gate=False)
        return prediction, self.sam2.encode_memory(features, prediction, torch.bfloat16)

    def _encode(self, pixels: Tensor) -> FrameFeatures:
        self.encoder_passes += 1
        return self.sam2.encode(pixels[None])


def _enlarge(logits: Tensor, image_size: int, size_hw: tuple[int, int]) -> Tensor:
    """(frames, l, l) → (frames, height, width), all at once."""
    square = F.interpolate(
        logits[:, None], size=(image_size, image_size), mode="bilinear", align_corners=False
    )
    return F.interpolate(square, size=size_hw, mode="bilinear", align_corners=False)[:, 0]


def count_passes(frames: int, objects: int) -> int:
    """Encoder passes of the published procedure. Counted in upstream's code for (frames, objects): (1, 3) 3,
    (3, 1) 6, (6, 1) 11, (6, 3) 33, (10, 3) 45."""
    if frames == 1:
        return objects
    return objects * (frames + min(frames, PROMPT_FRAMES))
