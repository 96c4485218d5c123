"""A loaded checkpoint's masks: of words, of masks, of points."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va_tools.model.device import free_bytes
from sa2va_tools.model.feature_stream import KIND
from sa2va_tools.model.mask_output import Leaving
from sa2va_tools.model.memory import MemoryEstimate, Work, estimate, fitting_pace, require_working_room
from sa2va_tools.model.out_of_memory import memory_guard
from sa2va_tools.model.output import (
    USUAL_WISHES,
    FrameMasks,
    FrameSource,
    MaskWishes,
    PointPrompt,
)
from sa2va_tools.model.preprocess import Picture
from sa2va_tools.model.propagation import Propagator
from sa2va_tools.model.runtime_core import RuntimeCore
from sa2va_tools.progress import CancelToken

_FULL_SIZE_BYTES = 24
"""A pixel: a decoded frame, the logits of one object as they are enlarged and cut, and its mask's RLE. Each
object's mask takes one more."""


class RuntimeMasks(RuntimeCore):
    """Frames and prompts in, masks out."""

    def masks_from_words(
        self,
        source: FrameSource,
        seg_prompts: NDArray[np.float32],
        *,
        mode: str = "sa2va",
        key_positions: Sequence[int] = (0,),
        wishes: MaskWishes = USUAL_WISHES,
        cancel: CancelToken | None = None,
    ) -> Generator[FrameMasks, None, None]:
        """Masks for (N, C) prompt embeddings on every frame of the clip, key frames first. A clip of
        one frame is answered by the language decoder in both modes."""
        own = self.config.grounding.gate_masks
        propagator = self.propagator(
            gate=wishes.gate and (own or mode == "sa2va-i"),
            gate_key_frames=wishes.gate and own,
            wishes=wishes,
            frames=len(source),
            objects=len(seg_prompts),
            key_frames=len(key_positions),
            cancel=cancel,
        )
        with memory_guard("The prompts of the masks"):
            embeddings = self._to_device(seg_prompts)
        if mode == "sa2va-i" and len(source) > 1:
            walk = propagator.language_masks(source, key_positions, embeddings)
        else:
            walk = propagator.language(source, key_positions, embeddings)
        return _guarded(walk)

    def masks_from_masks(
        self,
        source: FrameSource,
        masks: NDArray[np.bool_],
        position: int,
        *,
        wishes: MaskWishes = USUAL_WISHES,
        cancel: CancelToken | None = None,
    ) -> Generator[FrameMasks, None, None]:
        """Track (N, height, width) masks given on one frame, both ways."""
        propagator = self.propagator(
            gate=wishes.gate,
            wishes=wishes,
            frames=len(source),
            objects=len(masks),
            key_frames=1,
            cancel=cancel,
        )
        return _guarded(propagator.masks(source, position, torch.from_numpy(masks)))

    @torch.inference_mode()
    def masks_from_points(
        self,
        picture: Picture,
        prompts: Sequence[PointPrompt],
        *,
        key: Hashable | None = None,
        cancel: CancelToken | None = None,
    ) -> FrameMasks:
        """A mask per box or set of points, by the checkpoint's own SAM-2 head; `key` is that of the frame
        (`FrameSource.key_of`)."""
        propagator = self.propagator(gate=False, frames=1, objects=1, cancel=cancel)
        grounding, side = self._modules.grounding, self.config.grounding.image_size
        with memory_guard("Segmenting the region"):
            features = propagator.encode(picture, key)
            results = []
            for prompt in prompts:
                points = self._to_device(np.asarray(prompt.points_xy, np.float32))[None].float() * side
                labels = torch.tensor([prompt.labels], dtype=torch.int32, device=points.device)
                sparse = grounding.point_prompt(points, labels, multimask=len(prompt.labels) == 1)
                decoded = grounding.decode(features, grounding.without_memory(features), sparse)
                chosen = grounding.choose(decoded, gate=False)
                results.append(propagator.result(Leaving.begin(0, chosen, picture.shape[:2])))
            return FrameMasks(
                0,
                np.concatenate([result.masks for result in results]),
                np.concatenate([result.object_scores for result in results]),
                np.concatenate([result.mask_scores for result in results]),
            )

    @property
    def free_bytes(self) -> int | None:
        """What is free where the model is, with what can be let go there; None where that cannot be told."""
        free = free_bytes(self._home.device)
        return None if free is None else free + self.cache.bytes

    def memory_estimate(
        self,
        objects: int,
        *,
        video: bool,
        pixels: int = 0,
        seen: int | None = None,
        key_frames: int | None = None,
    ) -> MemoryEstimate:
        """What following that many objects wants, in frames of so many `pixels`, where the language model has
        `seen` so many (None, here and of `key_frames`: as usual)."""
        return estimate(
            self.config,
            str(self._home.dtype).removeprefix("torch."),
            Work(
                min(objects, self._pace.group),
                video,
                chat_frames=seen,
                key_frames=key_frames,
                frame_bytes=pixels * (objects + _FULL_SIZE_BYTES),
            ),
            device=self._home.device.type,
            weights=self._weight_bytes,
        )

    def kept_frames(self, source: FrameSource) -> int:
        """Frames that need not be encoded again."""
        keys = (source.key_of(position) for position in range(len(source)))
        return sum(key is not None and (KIND, key) in self.cache for key in keys)

    def propagator(
        self,
        *,
        gate: bool,
        gate_key_frames: bool = False,
        wishes: MaskWishes = USUAL_WISHES,
        frames: int | None = None,
        objects: int | None = None,
        key_frames: int | None = None,
        cancel: CancelToken | None = None,
    ) -> Propagator:
        """The tracker over this checkpoint's SAM-2, at a pace that the memory seems to allow for `frames` and
        `objects` (None: for any number), with so many `key_frames` (None: as usual). OutOfMemoryError where
        it allows none."""
        most = self._pace
        wanted = replace(
            most, batch=min(most.batch, frames or most.batch), group=min(most.group, objects or most.group)
        )
        width, free = self._home.element_size(), self.free_bytes
        if self._home.device.type == "cpu":
            require_working_room(self.config, width, free, key_frames)
        pace = fitting_pace(self.config, wanted, width, free, key_frames)
        if pace != wanted:
            self.tally.relieved(f"frames were encoded {pace.batch} at once, objects followed {pace.group}")
        return Propagator(
            self._modules.grounding,
            gate=gate,
            gate_key_frames=gate_key_frames,
            wishes=wishes,
            memory_dtype=self._memory_dtype,
            pace=pace,
            cache=self.cache,
            tally=self.tally,
            cancel=cancel,
        )


def _guarded(walk: Iterator[FrameMasks]) -> Generator[FrameMasks, None, None]:
    """Each step without gradients and with the memory guard; a plain decorator would leave
    inference mode on between the steps."""
    while True:
        with torch.inference_mode(), memory_guard("Propagating the masks"):
            try:
                item = next(walk)
            except StopIteration:
                return
        yield item
