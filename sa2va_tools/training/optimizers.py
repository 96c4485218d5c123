"""Muon for the weight matrices inside transformer layers, AdamW for everything else; learning-rate schedules.

This Muon (after Keller Jordan's description) computes the same as torch's, but orthogonalizes all matrices of
one shape together, in float32. For small models on a CPU that is tens of times faster than one matrix after
the other in bfloat16, which would take longer than the backward pass.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_FLOOR = 0.03
_HOLD = 0.25

Schedule = Callable[[float], float]
"""The share of the peak rate, given how much of a stage (0 … 1) has passed."""


class Muon(Optimizer):
    """Momentum with an orthogonalized update, for 2-D parameters."""

    def __init__(
        self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                self._update(group, shape, parameters)

    def _update(self, group: dict[str, Any], shape: torch.Size, parameters: list[Tensor]) -> None:
        directions = []
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            state = self.state[parameter]
            momentum = state.setdefault("momentum", torch.zeros_like(parameter))
            momentum.lerp_(gradient, 1 - group["momentum"])
            directions.append(gradient.lerp(momentum, group["momentum"]))
        scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
        for parameter, update in zip(parameters, orthogonalize(torch.stack(directions)), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update, alpha=-scale)


def orthogonalize(matrices: Tensor) -> Tensor:
    """(n, rows, columns) → approximately the nearest semi-orthogonal matrices, by Newton-Schulz iteration."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


def muon_and_adamw(
    modules: Mapping[str, nn.Module], *, muon_rate: float, adamw_rate: float, weight_decay: float = 0.01
) -> list[Optimizer]:
    """Two optimizers that share out the parameters, each parameter once: Muon takes the 2-D weights inside
    transformer layers."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    known: set[int] = set()
    for module in modules.values():
        for name, parameter in module.named_parameters():
            if id(parameter) in known:
                continue
            known.add(id(parameter))
            in_layer = parameter.ndim == 2 and (".layer." in name or ".layers." in name)
            (matrices if in_layer else others).append(parameter)
    return [
        Muon(matrices, lr=muon_rate, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=adamw_rate, betas=(0.9, 0.98), weight_decay=weight_decay),
    ]


def cosine_decay(progress: float) -> float:
    """From 1 to 0.03 along half a cosine."""
    return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def delayed_linear_decay(progress: float) -> float:
    """1 until a quarter of the stage has passed, then linearly to 0.03."""
    return max(_FLOOR, 1 - (1 - _FLOOR) * max(0.0, progress - _HOLD) / (1 - _HOLD))
