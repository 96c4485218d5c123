"""Which memories and object pointers a tracked frame attends to.

Rules: facebookresearch/sam2 `sam2_base.py`, `_prepare_memory_conditioned_features`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from sa2va_tools.model.sam2.modules import FrameMemory


@dataclass
class MemoryBank:
    """What later frames may attend to, for one direction of propagation. Its size is bounded, however long
    the clip is. Positions count frames of the clip."""

    num_maskmem: int
    max_pointers: int
    conditioning: dict[int, FrameMemory] = field(default_factory=dict)
    recent_features: dict[int, Tensor] = field(default_factory=dict)
    """Memory features of tracked frames."""
    recent_pointers: dict[int, Tensor] = field(default_factory=dict)
    """Their object pointers, which reach further back and are small."""

    def add(self, position: int, memory: FrameMemory) -> None:
        """Add the newest tracked frame; drop what no later frame can reach."""
        self.recent_features[position] = memory.features
        self.recent_pointers[position] = memory.pointer
        for entries, reach in (
            (self.recent_features, self.num_maskmem),
            (self.recent_pointers, self.max_pointers),
        ):
            for old in [stored for stored in entries if abs(position - stored) >= reach - 1]:
                del entries[old]

    def memories(self, position: int, step: int) -> list[tuple[int, Tensor]]:
        """(slot, features): all conditioning frames in slot 0, then the frames k steps behind in slot k."""
        found = [(0, memory.features) for memory in self.conditioning.values()]
        for distance in range(self.num_maskmem - 1, 0, -1):
            features = self.recent_features.get(position - step * distance)
            if features is not None:
                found.append((distance, features))
        return found

    def pointers(self, position: int, step: int) -> list[Tensor]:
        """Object pointers of the conditioning frames already passed, then of the frames behind."""
        found = [memory.pointer for at, memory in self.conditioning.items() if (position - at) * step >= 0]
        for distance in range(1, self.max_pointers):
            pointer = self.recent_pointers.get(position - step * distance)
            if pointer is not None:
                found.append(pointer)
        return found
