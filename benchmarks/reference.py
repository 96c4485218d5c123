"""The published procedure, step by step, on our modules and weights.

bytedance/Sa2VA `predict_forward` and its `language_embd_inference`: for every `[SEG]` anew, each key frame is
encoded and prompted, then the video is propagated, each frame encoded again. All frames stay on the device,
and until an object is done all its states, and its masks at full size. No batching, no cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sa2va_tools.model.grounding import FrameFeatures, Memory, Sam2Grounding
from sa2va_tools.model.preprocess import grounding_pixels
from sa2va_tools.model.propagation import MemoryBank

KEY_FRAMES = 5


@dataclass
class Reference:
    """One answer's masks, as the published code makes them."""

    grounding: Sam2Grounding
    passes_of_last: int = 0
    """Of the image encoder, for the masks made last."""
    logits: list[Tensor] = field(default_factory=list)
    """Per object (frames, 4s, 4s), on the CPU, for comparison."""

    @torch.inference_mode()
    def masks(self, pictures: Sequence[NDArray[np.uint8]], embeddings: Tensor) -> list[NDArray[np.bool_]]:
        """Of each object (frames, height, width)."""
        self.passes_of_last = 0
        config, parameter = self.grounding.config, self.grounding.no_object_pointer
        pixels = torch.from_numpy(grounding_pixels(list(pictures), config.image_size))
        resident = pixels.to(parameter.device, parameter.dtype)
        self.logits, found = [], []
        for embedding in embeddings:
            logits = self._one(resident, embedding[None])
            found.append((_full_size(logits, config.image_size, pictures[0].shape[:2]) > 0).cpu().numpy())
            self.logits.append(logits.cpu())
        return found

    def _one(self, pixels: Tensor, embedding: Tensor) -> Tensor:
        config = self.grounding.config
        keys = range(min(KEY_FRAMES, len(pixels)))
        conditioning: dict[int, Memory] = {}
        shown: dict[int, Tensor] = {}
        for position in keys:
            features = self._encode(pixels[position])
            decoded = self.grounding.decode(
                features,
                self.grounding.without_memory(features),
                self.grounding.language_prompt(embedding),
                language=True,
            )
            chosen = self.grounding.choose(decoded, gate=False)
            shown[position] = chosen.logits
            # Also where no frame follows that could attend to it.
            conditioning[position] = self.grounding.encode_memory(features, chosen, torch.bfloat16)
        bank = MemoryBank(config.num_maskmem, config.max_object_pointers, conditioning)
        states: list[Memory] = []  # the published code lets go of none, also where nothing can reach them
        for position in range(len(pixels)) if len(pixels) > 1 else ():
            features = self._encode(pixels[position])
            if position in conditioning:
                continue
            attended = self.grounding.attend(features, bank.memories(position, 1), bank.pointers(position, 1))
            decoded = self.grounding.decode(features, attended, self.grounding.empty_prompt(1))
            chosen = self.grounding.choose(decoded, gate=False)
            states.append(self.grounding.encode_memory(features, chosen, torch.bfloat16))
            bank.remember(position, states[-1])
            shown[position] = chosen.logits
        return torch.cat([shown[position] for position in range(len(pixels))]).float()

    def _encode(self, pixels: Tensor) -> FrameFeatures:
        self.passes_of_last += 1
        return self.grounding.encode(pixels[None])


def _full_size(logits: Tensor, image_size: int, size_hw: tuple[int, int]) -> Tensor:
    """(frames, l, l) → (frames, height, width), all at once."""
    square = F.interpolate(
        logits[:, None], size=(image_size, image_size), mode="bilinear", align_corners=False
    )
    return F.interpolate(square, size=size_hw, mode="bilinear", align_corners=False)[:, 0]


def passes(frames: int, objects: int) -> int:
    """Encoder passes of the published procedure. Counted in upstream's code for (frames, objects): (1, 3) 3,
    (3, 1) 6, (6, 1) 11, (6, 3) 33, (10, 3) 45."""
    if frames == 1:
        return objects
    return objects * (frames + min(frames, KEY_FRAMES))
