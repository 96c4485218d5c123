"""Several processes, one core each, training one model: gradients are averaged at every step.

On a CPU this beats more threads, because a model this small has little to share inside one operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Workers:
    """This process's number among `count`. With one worker every method is a no-op."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, meeting_file: Path, rank: int, count: int) -> Workers:
        """Meet the other workers at a file that does not exist yet."""
        if count > 1:
            dist.init_process_group("gloo", init_method=f"file://{meeting_file}", rank=rank, world_size=count)
        return cls(rank, count)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """A parameter without a gradient here counts as zero if another worker has one for it, and stays
        without if none has: optimisers must not move what no batch used."""
        if self.count == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        used = torch.tensor([float(p.grad is not None) for p in trained])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        flat = torch.cat([used, *(g.flatten() for g in gradients)])
        dist.all_reduce(flat)
        used, flat = flat[: len(trained)], flat[len(trained) :] / self.count
        start = 0
        for parameter, users in zip(trained, used.tolist(), strict=True):
            piece = flat[start : start + parameter.numel()]
            parameter.grad = piece.view_as(parameter).clone() if users else None
            start += parameter.numel()

    def start_alike(self, tensors: Iterable[Tensor]) -> None:
        """Everyone takes over the first worker's parameters and buffers."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)


ALONE = Workers()
"""One process, nobody to agree with."""
