"""Mask logits leave the device small; behind it they become masks at the video's size."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sa2va_tools.model.finishing import finished, full_size
from sa2va_tools.model.grounding import Chosen
from sa2va_tools.model.output import FrameMasks, MaskWishes
from sa2va_tools.progress import CancelToken


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is shown of all objects on one frame, on its way to the CPU."""

    position: int
    size_hw: tuple[int, int]
    logits: Tensor
    """(N, l, l) float32"""
    object_logits: Tensor
    """(N,)"""
    copied: torch.cuda.Event | None = None
    """When both have arrived; None: they have."""

    @classmethod
    def begin(cls, position: int, chosen: Chosen, size_hw: tuple[int, int]) -> Leaving:
        """From a GPU without waiting: the device goes on with the next frame meanwhile."""
        logits, object_logits = chosen.logits.float(), chosen.object_logits.float()
        if not logits.is_cuda:
            return cls(position, size_hw, logits.cpu(), object_logits.cpu())
        # Only into pinned memory can a copy go by itself.
        logits, object_logits = (
            torch.empty_like(each, device="cpu", pin_memory=True).copy_(each, non_blocking=True)
            for each in (logits, object_logits)
        )
        copied = torch.cuda.Event()
        copied.record()
        return cls(position, size_hw, logits, object_logits, copied)

    def wait(self) -> None:
        """Until it has arrived."""
        if self.copied is not None:
            self.copied.synchronize()


def one_behind(walk: Generator[Leaving, None, None]) -> Iterator[Leaving]:
    """The same, each from a GPU only when the next one has been begun: whoever waits for it leaves the GPU
    with work to do."""
    waiting: deque[Leaving] = deque()
    with closing(walk):
        for leaving in walk:
            waiting.append(leaving)
            if leaving.copied is None or len(waiting) > 1:
                yield waiting.popleft()
    yield from waiting


def full_masks(
    leaving: Leaving, image_size: int, wishes: MaskWishes, cancel: CancelToken | None = None
) -> FrameMasks:
    """Masks at the video's size, through SAM-2's input size (`image_size`) as upstream makes them. One object
    at a time: at full size each takes some four bytes a pixel and more. Raises CancelledError between two."""
    leaving.wait()
    count, grid_side = len(leaving.logits), leaving.logits.shape[-1]
    masks, scores = np.empty((count, *leaving.size_hw), np.bool_), np.empty(count, np.float32)
    for number, logits in enumerate(leaving.logits.numpy()):
        if cancel is not None:
            cancel.raise_if_cancelled()
        full = full_size(logits, image_size, leaving.size_hw)
        masks[number], scores[number] = finished(
            full, threshold=wishes.threshold, smooth=wishes.smooth, grid_side=grid_side
        )
    return FrameMasks(leaving.position, masks, torch.sigmoid(leaving.object_logits).numpy(), scores)
