"""The engine's way through a clip in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.models import MemoryClip
from benchmarks.reference import PROMPT_FRAMES
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.model.device.memory_policy import BatchSizes, MemoryPolicy
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.model.tracking.key_frame_prompts import LanguagePrompts
from sa2va_tools.model.tracking.tracker import Tracker
from sa2va_tools.run import Run


class EngineTracking:
    """Masks of prompt embeddings as a call of the engine makes them, without a cache."""

    def __init__(self, sam2: Sam2, sizes: BatchSizes, *, records: bool = False) -> None:
        """`records`: keep the logits of all frames, for comparison."""
        self.sam2, self.sizes, self.records = sam2, sizes, records
        self.encoder_passes = 0
        """Of the last call."""
        self._logits: dict[int, Tensor] = {}

    @torch.inference_mode()
    def track(self, clip: MemoryClip, embeddings: Tensor) -> int:
        """The number of frames; the masks of each are dropped at once, as when a caller has read them."""
        run = Run()
        tracker = Tracker(self.sam2, MemoryPolicy(ByteCache(0), self.sizes, run.stats), run, gate=False)
        if self.records:
            tracker.recorded_logits = self._logits = {}
        prompt_positions = range(min(PROMPT_FRAMES, len(clip)))
        frames = tracker.propagate(clip, prompt_positions, LanguagePrompts(embeddings))
        count = sum(1 for _ in frames)
        self.encoder_passes = run.stats.encoder_passes
        return count

    @property
    def logits(self) -> Tensor:
        """(objects, frames, 4s, 4s) of the last call."""
        return torch.stack([self._logits[position] for position in sorted(self._logits)], 1)
