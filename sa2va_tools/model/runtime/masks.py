"""The mask side of a loaded checkpoint: frames and prompts in, masks out."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va_tools.model.device.memory_policy import MemoryPolicy
from sa2va_tools.model.output import DEFAULT_MASK_OPTIONS, FrameMasks, FrameSource, MaskOptions, PointPrompt
from sa2va_tools.model.preprocessing.tiles import Picture
from sa2va_tools.model.sam2.modules import FrameFeatures, MaskPrediction, Sam2
from sa2va_tools.model.tracking.frame_features import encode_picture
from sa2va_tools.model.tracking.key_frame_prompts import (
    KeyFramePrompts,
    LanguageMaskPrompts,
    LanguagePrompts,
    MaskPrompts,
)
from sa2va_tools.model.tracking.mask_output import PendingMasks, full_size_masks
from sa2va_tools.model.tracking.tracker import Tracker
from sa2va_tools.run import Run


@dataclass(frozen=True, slots=True)
class Masks:
    """For one run. Frame features are cached for later runs."""

    sam2: Sam2
    policy: MemoryPolicy
    run: Run

    def track_words(
        self,
        source: FrameSource,
        seg_prompts: NDArray[np.float32],
        *,
        mode: str = "sa2va",
        prompt_positions: Sequence[int] = (0,),
        options: MaskOptions = DEFAULT_MASK_OPTIONS,
    ) -> Generator[FrameMasks, None, None]:
        """Masks for (N, C) prompt embeddings on every frame of the clip, prompted frames first. A clip of one
        frame is answered by the language decoder in both modes."""
        gates_all = options.gate_by_object_score and self.sam2.config.gate_masks
        gates_tracked = options.gate_by_object_score and mode == "sa2va-i"
        embeddings = self._to_device(seg_prompts)
        prompts: KeyFramePrompts = LanguagePrompts(embeddings, gate=gates_all)
        if mode == "sa2va-i" and len(source) > 1:
            prompts = LanguageMaskPrompts(embeddings, self.run, gate=gates_all, threshold=options.threshold)
        tracker = self.tracker(gate=gates_all or gates_tracked, options=options)
        return tracker.propagate(source, prompt_positions, prompts)

    def track_masks(
        self,
        source: FrameSource,
        masks: NDArray[np.bool_],
        position: int,
        *,
        options: MaskOptions = DEFAULT_MASK_OPTIONS,
    ) -> Generator[FrameMasks, None, None]:
        """Track (N, height, width) masks given on one frame, both ways."""
        tracker = self.tracker(gate=options.gate_by_object_score, options=options)
        return tracker.propagate(source, [position], MaskPrompts(torch.from_numpy(masks), self.run))

    def segment_points(
        self, picture: Picture, prompts: Sequence[PointPrompt], *, key: Hashable | None = None
    ) -> FrameMasks:
        """A mask per box or set of points, by the checkpoint's own SAM-2 head; `key` is the frame's
        (`FrameSource.cache_key`)."""
        features = encode_picture(self.sam2, picture, key, self.policy, self.run)
        predictions = [
            self.policy.retry(partial(self._predict_from_points, features, prompt)) for prompt in prompts
        ]
        pending = PendingMasks.start_copy(0, MaskPrediction.concat(predictions), picture.shape[:2])
        image_size = self.sam2.config.image_size
        return self.policy.retry(lambda: full_size_masks(pending, image_size, DEFAULT_MASK_OPTIONS, self.run))

    @torch.inference_mode()
    def _predict_from_points(self, features: FrameFeatures, prompt: PointPrompt) -> MaskPrediction:
        fractions = self._to_device(np.asarray(prompt.points_xy, np.float32))
        points = fractions[None].float() * self.sam2.config.image_size
        labels = torch.tensor([prompt.labels], dtype=torch.int32, device=points.device)
        sparse = self.sam2.point_prompt(points, labels, multimask=len(prompt.labels) == 1)
        candidates = self.sam2.decode(features, self.sam2.embed_without_memory(features), sparse)
        return self.sam2.select_best_mask(candidates, gate=False)

    def tracker(self, *, gate: bool, options: MaskOptions = DEFAULT_MASK_OPTIONS) -> Tracker:
        """The tracker over this checkpoint's SAM-2."""
        return Tracker(self.sam2, self.policy, self.run, gate=gate, mask_options=options)

    def _to_device(self, array: NDArray[np.float32]) -> torch.Tensor:
        like = self.sam2.no_object_pointer
        return torch.from_numpy(np.ascontiguousarray(array)).to(like.device, like.dtype)
