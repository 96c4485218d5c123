"""The streaming tracker: many objects, one pass over the frames, bounded memory.

Decides which frames condition and in which order frames are visited; every tensor step is a method of `Sam2`.
Each frame is encoded once, whatever the number of objects. On the device stay the memories of the
conditioning frames and the last few memories and pointers, however long the clip. Positions count frames of
the clip as it is tracked (after range and stride).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.model.device.memory_policy import MemoryPolicy
from sa2va_tools.model.output import DEFAULT_MASK_OPTIONS, FrameMasks, FrameSource, MaskOptions
from sa2va_tools.model.sam2.modules import FrameMemory, MaskPrediction, Sam2
from sa2va_tools.model.tracking.frame_features import EncodedFrame, FeatureStream
from sa2va_tools.model.tracking.key_frame_prompts import KeyFramePrompts
from sa2va_tools.model.tracking.mask_output import PendingMasks, full_size_masks
from sa2va_tools.model.tracking.memory_bank import MemoryBank
from sa2va_tools.run import Run


@dataclass(frozen=True, slots=True)
class TrackedObjects:
    """Some objects on one frame: what is returned for them, and what later frames may attend to."""

    shown: MaskPrediction
    memory: FrameMemory | None

    @classmethod
    def concat(cls, groups: Sequence[TrackedObjects]) -> TrackedObjects:
        """Several groups of objects as one."""
        if len(groups) == 1:
            return groups[0]
        memories = [group.memory for group in groups if group.memory is not None]
        return cls(
            MaskPrediction.concat([group.shown for group in groups]),
            FrameMemory.concat(memories) if memories else None,
        )


@dataclass(slots=True)
class Tracker:
    """Tracks N objects through one clip."""

    sam2: Sam2
    policy: MemoryPolicy
    run: Run
    _: KW_ONLY
    gate: bool
    """Empties tracked masks with a negative object score."""
    mask_options: MaskOptions = DEFAULT_MASK_OPTIONS
    """Only the shape of the masks is used."""
    memory_dtype: torch.dtype = torch.bfloat16
    """Of stored memories; SAM-2 stores bfloat16."""
    recorded_logits: dict[int, Tensor] | None = None
    """Set to a dictionary to record the low-resolution logits (N, 4s, 4s) of each frame."""

    def propagate(
        self, source: FrameSource, key_positions: Sequence[int], prompts: KeyFramePrompts
    ) -> Generator[FrameMasks, None, None]:
        """Masks of all objects on key frames, then forwards from the first of them, then backwards, up to
        where the clip breaks off. MediaUnreadableError if no key frame can be decoded."""
        waiting: PendingMasks | None = None
        for pending in self._predict_frames(source, sorted(set(key_positions)), prompts):
            if waiting is not None:
                yield self._finish(waiting)
            # A GPU copies masks while it computes the next frame.
            waiting = None if pending.copied is None else pending
            if waiting is None:
                yield self._finish(pending)
        if waiting is not None:
            yield self._finish(waiting)

    def _predict_frames(
        self, source: FrameSource, keys: list[int], prompts: KeyFramePrompts
    ) -> Iterator[PendingMasks]:
        stream = FeatureStream(self.sam2, source, self.policy, self.run)
        conditioning: dict[int, FrameMemory] = {}
        for frame in stream.read(keys):
            tracked = self._predict_key_frame(frame, prompts, remember=len(keys) < len(source))
            yield PendingMasks.start_copy(frame.position, tracked.shown, frame.size_hw)
            if tracked.memory is not None:
                conditioning[frame.position] = tracked.memory
        if not conditioning and len(keys) < len(source):
            raise MediaUnreadableError(
                "None of the frames on which masks begin can be decoded.",
                hint="Choose another range, or repair the file.",
            )
        forward = [position for position in range(keys[0] + 1, len(source)) if position not in keys]
        backward = list(range(keys[0] - 1, -1, -1))
        config = self.sam2.config
        for step, positions in ((1, forward), (-1, backward)):
            bank = MemoryBank(config.num_maskmem, config.max_object_pointers, dict(conditioning))
            for frame in stream.read(positions):
                self.run.raise_if_cancelled()
                tracked = self._track_frame(bank, frame, step, len(prompts))
                assert tracked.memory is not None  # a tracked frame always has one
                bank.add(frame.position, tracked.memory)
                yield PendingMasks.start_copy(frame.position, tracked.shown, frame.size_hw)

    @torch.inference_mode()
    def _predict_key_frame(
        self, frame: EncodedFrame, prompts: KeyFramePrompts, *, remember: bool
    ) -> TrackedObjects:
        def predict(part: slice) -> TrackedObjects:
            key = prompts.predict(self.sam2, frame, part)
            memory = self._encode_memory(frame, key.remembered) if remember else None
            return TrackedObjects(key.shown, memory)

        return TrackedObjects.concat(self.policy.in_batches("objects", len(prompts), predict))

    @torch.inference_mode()
    def _track_frame(self, bank: MemoryBank, frame: EncodedFrame, step: int, objects: int) -> TrackedObjects:
        memories = bank.memories(frame.position, step)
        pointers = bank.pointers(frame.position, step)

        def track(part: slice) -> TrackedObjects:
            embedding = self.sam2.attend(
                frame.features,
                [(slot, memory[:, part]) for slot, memory in memories],
                [pointer[part] for pointer in pointers],
            )
            prompt = self.sam2.empty_prompt(len(embedding))
            candidates = self.sam2.decode(frame.features, embedding, prompt)
            prediction = self.sam2.select_best_mask(candidates, gate=self.gate)
            return TrackedObjects(prediction, self._encode_memory(frame, prediction))

        return TrackedObjects.concat(self.policy.in_batches("objects", objects, track))

    def _encode_memory(self, frame: EncodedFrame, prediction: MaskPrediction) -> FrameMemory:
        return self.sam2.encode_memory(frame.features, prediction, self.memory_dtype)

    def _finish(self, pending: PendingMasks) -> FrameMasks:
        """Masks at the video's size."""
        if self.recorded_logits is not None:
            pending.wait()
            self.recorded_logits[pending.position] = pending.logits
        image_size = self.sam2.config.image_size
        return self.policy.retry(lambda: full_size_masks(pending, image_size, self.mask_options, self.run))
