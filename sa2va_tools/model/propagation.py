"""The streaming tracker: many objects, one pass over the frames, bounded memory.

Decides which frames condition, which are remembered and for how long; every tensor step is
`Sam2Grounding`'s. Each frame is encoded once, whatever the number of objects. Kept on the device:
the memories of the conditioning frames, the last few memories and pointers — nothing else, however
long the clip. Positions count frames of the clip as it is tracked (after range and stride).

Rules of attention: facebookresearch/sam2 `sam2_base.py`, `_prepare_memory_conditioned_features`;
of conditioning: bytedance/Sa2VA `predict_forward` (mode `sa2va`), kumuji/Sa2VA-i (mode `sa2va-i`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.model.cache import ByteCache
from sa2va_tools.model.device import AT_EASE, Pace
from sa2va_tools.model.feature_stream import FeatureStream, OnePicture, SeenFrame
from sa2va_tools.model.grounding import Chosen, FrameFeatures, Memory, Sam2Grounding
from sa2va_tools.model.mask_output import Leaving, full_masks, one_behind
from sa2va_tools.model.out_of_memory import in_parts, with_room
from sa2va_tools.model.output import USUAL_WISHES, FrameMasks, FrameSource, MaskWishes
from sa2va_tools.model.tally import Tally
from sa2va_tools.progress import CancelToken


@dataclass
class MemoryBank:
    """What later frames may attend to, for one direction of travel."""

    num_maskmem: int
    max_pointers: int
    conditioning: dict[int, Memory] = field(default_factory=dict)
    recent: dict[int, Tensor] = field(default_factory=dict)
    """Features of tracked frames."""
    passed: dict[int, Tensor] = field(default_factory=dict)
    """Their object pointers, which reach further back and are small."""

    def remember(self, position: int, memory: Memory) -> None:
        """Add the newest tracked frame; let go of what no later frame can reach."""
        self.recent[position], self.passed[position] = memory.features, memory.pointer
        for held, most in ((self.recent, self.num_maskmem), (self.passed, self.max_pointers)):
            for old in [kept for kept in held if abs(position - kept) >= most - 1]:
                del held[old]

    def memories(self, position: int, step: int) -> list[tuple[int, Tensor]]:
        """(slot, features): all conditioning frames in slot 0, then the frames k steps behind."""
        kept = [(0, memory.features) for memory in self.conditioning.values()]
        for distance in range(self.num_maskmem - 1, 0, -1):
            features = self.recent.get(position - step * distance)
            if features is not None:
                kept.append((distance, features))
        return kept

    def pointers(self, position: int, step: int) -> list[Tensor]:
        """Object pointers of conditioning frames already passed, then of the frames behind."""
        kept = [memory.pointer for at, memory in self.conditioning.items() if (position - at) * step >= 0]
        for distance in range(1, self.max_pointers):
            pointer = self.passed.get(position - step * distance)
            if pointer is not None:
                kept.append(pointer)
        return kept


@dataclass(frozen=True, slots=True)
class Followed:
    """Some objects on one frame: what is shown of them, and what later frames may attend to."""

    shown: Chosen
    memory: Memory | None

    @classmethod
    def joined(cls, groups: Sequence[Followed]) -> Followed:
        """Of all objects, from those of groups of them."""
        memories = [group.memory for group in groups if group.memory is not None]
        return cls(
            Chosen.joined([group.shown for group in groups]), Memory.joined(memories) if memories else None
        )


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A conditioning frame: what it contributes, and the answer that is shown for it."""

    chosen: Chosen
    shown: Chosen
    """Its scores are those of the prompt's own decoding, also where `chosen` is a mask prompt."""


_Condition = Callable[[SeenFrame, slice], KeyFrame]
"""A key frame for some of the objects."""


class Propagator:
    """Tracks N objects through one clip."""

    def __init__(
        self,
        grounding: Sam2Grounding,
        *,
        gate: bool,
        gate_key_frames: bool = False,
        wishes: MaskWishes = USUAL_WISHES,
        memory_dtype: torch.dtype = torch.bfloat16,
        pace: Pace = AT_EASE,
        cache: ByteCache | None = None,
        tally: Tally | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """`gate` empties tracked masks of negative object score, `gate_key_frames` those of key
        frames (no published model does); of `wishes` only the shape of masks is heeded here. `memory_dtype`
        is that of stored memories (SAM-2 stores bfloat16). Frames' features are kept in `cache`. Where memory
        does not suffice for `pace`, less is done at once, and `tally` is told."""
        self.pace, self.group, self.cache, self.tally = pace, pace.group, cache, tally or Tally()
        self.grounding, self.memory_dtype, self.cancel = grounding, memory_dtype, cancel
        self.gate, self.gate_key_frames, self.wishes = gate, gate_key_frames, wishes
        self._passes_before = self.tally.encoder_passes
        self.logits_of: dict[int, Tensor] | None = None
        """Set to a dictionary to keep the low-resolution logits (N, 4s, 4s) of each frame."""

    @property
    def encoder_passes(self) -> int:
        """Frames that went through the image encoder for this propagator."""
        return self.tally.encoder_passes - self._passes_before

    # ---- whole clips --------------------------------------------------------------------------

    def language(
        self, source: FrameSource, key_positions: Sequence[int], embeddings: Tensor
    ) -> Iterator[FrameMasks]:
        """Mode `sa2va`: the (N, C) embeddings prompt every key frame, without memory."""

        def condition(seen: SeenFrame, part: slice) -> KeyFrame:
            chosen = self.from_language(seen.features, embeddings[part], gate=self.gate_key_frames)
            return KeyFrame(chosen, chosen)

        return self._clip(source, key_positions, condition, len(embeddings))

    def language_masks(
        self, source: FrameSource, key_positions: Sequence[int], embeddings: Tensor
    ) -> Iterator[FrameMasks]:
        """Mode `sa2va-i`: the embeddings' masks on the key frames, binarised at the video's size,
        are mask prompts for plain SAM-2."""

        def condition(seen: SeenFrame, part: slice) -> KeyFrame:
            first = self.from_language(seen.features, embeddings[part], gate=self.gate_key_frames)
            # Sa2VA-i resizes in one step here, where Sa2VA's output takes two.
            masks = (_resized(row, seen.size_hw) > 0 for row in first.logits.split(1))
            chosen = self.from_masks(seen.features, masks)
            logits = self._graded(chosen.logits, first.logits)
            shown = Chosen(logits, chosen.pointer, first.object_logits)
            return KeyFrame(chosen, shown)

        return self._clip(source, key_positions, condition, len(embeddings))

    def _graded(self, binary: Tensor, first: Tensor) -> Tensor:
        """Logits to show of a key frame. `binary` ones know no threshold but one half: above it those behind
        them (`first`) take away from the mask, below it they add to it."""
        threshold = self.wishes.threshold
        if threshold == USUAL_WISHES.threshold:
            return binary
        return torch.minimum(binary, first) if threshold > 0.5 else torch.maximum(binary, first)

    def masks(self, source: FrameSource, position: int, masks: Tensor) -> Iterator[FrameMasks]:
        """Track (N, height, width) boolean masks given on one frame, both ways. Those that are at work are
        moved to the device."""
        device = self.grounding.no_object_pointer.device

        def condition(seen: SeenFrame, part: slice) -> KeyFrame:
            chosen = self.from_masks(seen.features, (mask.to(device) for mask in masks[part].split(1)))
            return KeyFrame(chosen, chosen)

        return self._clip(source, [position], condition, len(masks))

    # ---- single frames ------------------------------------------------------------------------

    def encode(self, picture: NDArray[np.uint8], key: Hashable | None = None) -> FrameFeatures:
        """One frame through the image encoder, or from the cache where `key` is known there."""
        return next(self._stream(OnePicture(picture, key)).read([0])).features

    def from_language(self, features: FrameFeatures, embeddings: Tensor, *, gate: bool) -> Chosen:
        prompt = self.grounding.language_prompt(embeddings)
        decoded = self.grounding.decode(
            features, self.grounding.without_memory(features), prompt, language=True
        )
        return self.grounding.choose(decoded, gate=gate)

    def from_masks(self, features: FrameFeatures, masks: Iterable[Tensor]) -> Chosen:
        """`masks`, (1, height, width) booleans, are made one by one: at full size each takes four bytes a
        pixel and more."""
        side = 4 * self.grounding.config.logit_side
        squares = []
        for mask in masks:
            self._check()
            square = F.interpolate(
                mask[:, None].float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True
            )
            squares.append(square[:, 0] >= 0.5)
        return self.grounding.mask_as_output(features, torch.cat(squares).float())

    def result(self, leaving: Leaving) -> FrameMasks:
        """What has left the device, as masks at the video's size."""
        if self.logits_of is not None:
            leaving.wait()
            self.logits_of[leaving.position] = leaving.logits
        return full_masks(leaving, self.grounding.config.image_size, self.wishes, self.cancel)

    def _check(self) -> None:
        if self.cancel is not None:
            self.cancel.raise_if_cancelled()

    # ---- the walk -----------------------------------------------------------------------------

    def _stream(self, source: FrameSource) -> FeatureStream:
        return FeatureStream(
            self.grounding,
            source,
            batch=self.pace.batch,
            cache=self.cache,
            tally=self.tally,
            cancel=self.cancel,
        )

    def _clip(
        self, source: FrameSource, key_positions: Sequence[int], condition: _Condition, objects: int
    ) -> Iterator[FrameMasks]:
        keys, stream = sorted(set(key_positions)), self._stream(source)
        for leaving in one_behind(self._walk(stream, keys, len(source), condition, objects)):
            yield with_room(partial(self.result, leaving), stream.give_up_kept)

    def _walk(
        self, stream: FeatureStream, keys: list[int], length: int, condition: _Condition, objects: int
    ) -> Generator[Leaving, None, None]:
        conditioning: dict[int, Memory] = {}
        for seen in stream.read(keys):
            follow = partial(self._conditioned, seen, condition, remembers=len(keys) < length)
            followed = self._in_groups(stream, objects, follow)
            yield Leaving.begin(seen.position, followed.shown, seen.size_hw)
            if followed.memory is not None:
                conditioning[seen.position] = followed.memory
        if not conditioning and len(keys) < length:
            raise MediaUnreadableError(
                "The frames that the masks begin on cannot be decoded.",
                hint="Choose another range, or repair the file.",
            )
        forward = [at for at in range(keys[0] + 1, length) if at not in keys]
        for step, positions in ((1, forward), (-1, list(range(keys[0] - 1, -1, -1)))):
            bank = self._bank(conditioning)
            for seen in stream.read(positions):
                if self.cancel is not None:
                    self.cancel.raise_if_cancelled()
                followed = self._in_groups(stream, objects, partial(self._tracked, bank, seen, step))
                assert followed.memory is not None  # a tracked frame always has one
                bank.remember(seen.position, followed.memory)
                yield Leaving.begin(seen.position, followed.shown, seen.size_hw)

    def _conditioned(
        self, seen: SeenFrame, condition: _Condition, part: slice, *, remembers: bool
    ) -> Followed:
        key = condition(seen, part)
        if not remembers:
            return Followed(key.shown, None)
        return Followed(key.shown, self.grounding.encode_memory(seen.features, key.chosen, self.memory_dtype))

    def _tracked(self, bank: MemoryBank, seen: SeenFrame, step: int, part: slice) -> Followed:
        position, features = seen.position, seen.features
        attended = self.grounding.attend(
            features,
            [(slot, memory[:, part]) for slot, memory in bank.memories(position, step)],
            [pointer[part] for pointer in bank.pointers(position, step)],
            window=self.pace.window,
        )
        prompt = self.grounding.empty_prompt(len(attended))
        chosen = self.grounding.choose(self.grounding.decode(features, attended, prompt), gate=self.gate)
        return Followed(chosen, self.grounding.encode_memory(features, chosen, self.memory_dtype))

    def _in_groups(
        self, stream: FeatureStream, objects: int, follow: Callable[[slice], Followed]
    ) -> Followed:
        """All objects, some at a time: as many as fit into memory, now and from now on."""
        groups, self.group = in_parts(
            objects,
            self.group,
            follow,
            give_up=stream.give_up_kept,
            on_fewer=lambda count: self.tally.relieved(f"{count} object(s) were followed at once"),
        )
        if len(groups) == 1:
            return groups[0]
        return with_room(partial(Followed.joined, groups), stream.give_up_kept)

    def _bank(self, conditioning: dict[int, Memory]) -> MemoryBank:
        config = self.grounding.config
        return MemoryBank(config.num_maskmem, config.max_object_pointers, dict(conditioning))


def _resized(maps: Tensor, size_hw: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps[:, None].float(), size=size_hw, mode="bilinear", align_corners=False)[:, 0]
