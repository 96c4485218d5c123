"""The engine's way through a clip in memory."""

from __future__ import annotations

import torch

from benchmarks.models import Frames
from benchmarks.reference import KEY_FRAMES
from sa2va_tools.model.device import Pace
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.propagation import Propagator


class Ours:
    """Masks of language prompts, as a call makes them."""

    def __init__(self, grounding: Sam2Grounding, pace: Pace) -> None:
        self.walker = Propagator(grounding, gate=False, pace=pace)
        self.walker.logits_of = {}
        self.passes_of_last = 0

    @torch.inference_mode()
    def masks(self, frames: Frames, embeddings: torch.Tensor) -> int:
        keys, before = range(min(KEY_FRAMES, len(frames))), self.walker.encoder_passes
        count = sum(1 for _ in self.walker.language(frames, keys, embeddings))
        self.passes_of_last = self.walker.encoder_passes - before
        return count

    def logits(self) -> torch.Tensor:
        kept = self.walker.logits_of or {}
        return torch.stack([kept[position] for position in sorted(kept)], 1)
