"""The loop of a training stage: steps, learning rates, saving and resuming. Knows nothing of losses or data.

A stage is a fixed number of steps, and every step has random generators of its own. So the same seed gives
the same weights, even if the stage was interrupted and resumed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sa2va_tools.errors import Sa2vaError
from sa2va_tools.run import Run
from sa2va_tools.training.device import CPU
from sa2va_tools.training.optimizers import Schedule
from sa2va_tools.training.processes import SINGLE_WORKER, Workers
from sa2va_tools.training.stage_log import SKIPPED, StageLog

_MAX_SKIPPED_STEPS = 50
_MAX_WARM_UP_STEPS = 50
_USUAL_LOG_INTERVAL = 25


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """How long a stage takes, and how it draws batches."""

    name: str
    """Names the stage's files and seeds its generators: with another name, the weights differ."""
    steps: int
    seed: int
    batch_share: float = 1.0
    """Scales the batches, see `StageLoop.scale_batch`."""
    repeats_after: int | None = None
    """After this many steps, the batches of the first ones are drawn again; None: always new batches."""
    save_every_s: float = 90
    log_every: int | None = None
    """Steps between two log entries; None: 25, and fewer in a short stage."""

    @property
    def log_interval(self) -> int:
        return self.log_every or min(_USUAL_LOG_INTERVAL, max(1, self.steps // 10))


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its number, how much of the stage (0 … 1) has passed, and its own generators, on the CPU."""

    number: int
    progress: float
    rng: random.Random
    noise: torch.Generator


@dataclass(eq=False)
class StageLoop:
    """Iterate over it for steps, and call `update` once in each.

    `modules` are on `device` already. The state goes into `folder/<name>.state.pt` every `save_every_s`
    seconds, when the run is cancelled, and at the end; a later loop with the same name and folder resumes
    from it. Means of what `update` is given go into `folder/<name>.csv`, see `StageLog`.
    """

    plan: StagePlan
    folder: Path
    modules: Mapping[str, nn.Module]
    optimizers: list[Optimizer]
    schedule: Schedule
    device: torch.device = CPU
    workers: Workers = SINGLE_WORKER
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        self.state_path = self.folder / f"{self.plan.name}.state.pt"
        self._peak_rates = [[group["lr"] for group in each.param_groups] for each in self.optimizers]
        self._log = StageLog(self.folder / f"{self.plan.name}.csv")
        self._elapsed_s = 0.0
        self._done = 0
        self._skipped_in_a_row = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.state_path.exists():
            state = load_modules(self.state_path, self.modules)
            self._elapsed_s = state["elapsed_s"]
            self._done = state["steps"]
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        if self.workers.is_first:
            self._log.truncate(self._done)

    def scale_batch(self, count: int, minimum: int = 2) -> int:
        """How many of `count` samples of a batch this stage takes."""
        return max(minimum, round(count * self.plan.batch_share))

    def __iter__(self) -> Iterator[Step]:
        last_saved = time.monotonic()
        for module in self.modules.values():
            self.workers.broadcast(module.state_dict().values())
        while self._done < self.plan.steps:
            if self.run.cancelled:
                if self.workers.is_first:
                    self.save()
                self.run.raise_if_cancelled()
            began = time.monotonic()
            progress = self._done / self.plan.steps
            self._set_rates(progress)
            yield self._make_step(progress)
            self._done += 1
            self._elapsed_s += time.monotonic() - began
            if not self.workers.is_first:
                continue
            if self._done % self.plan.log_interval == 0:
                self._write_log()
            if time.monotonic() - last_saved > self.plan.save_every_s:
                self.save()
                last_saved = time.monotonic()
        if self.workers.is_first:
            self._write_log()
            self.save()

    def _make_step(self, progress: float) -> Step:
        repeats_after = self.plan.repeats_after
        drawn = self._done % repeats_after if repeats_after else self._done
        rng = random.Random(f"{self.plan.name} {self.plan.seed} {self.workers.rank} {drawn}")
        noise = torch.Generator().manual_seed(rng.getrandbits(48))
        return Step(self._done, progress, rng, noise)

    def update(self, loss: Tensor, values: Mapping[str, Tensor | float], *, loss_name: str = "loss") -> None:
        """One optimizer step on `loss`, with gradients clipped to a norm of 1 in each module. `values` are
        logged, and so is `loss`, unless `values` has an entry of its name. Different kinds of steps need
        different names, so that each curve shows one quantity.

        If the loss or a gradient is not finite, the step is skipped and not logged. Sa2vaError after 50
        skipped steps in a row.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if torch.isfinite(loss):
            loss.backward()
        modules = self.modules.values()
        self.workers.average_gradients(p for module in modules for p in module.parameters())
        norms = [nn.utils.clip_grad_norm_(module.parameters(), 1.0) for module in modules]
        gradients_are_finite = all(bool(torch.isfinite(norm)) for norm in norms)
        if gradients_are_finite:
            for optimizer in self.optimizers:
                optimizer.step()
        is_finite = gradients_are_finite and bool(torch.isfinite(loss))
        self._count_skipped(is_finite)
        if self.workers.is_first:
            self._log.add({SKIPPED: float(not is_finite)})
            if is_finite:
                self._log.add({loss_name: loss, **values})

    def _count_skipped(self, is_finite: bool) -> None:
        self._skipped_in_a_row = 0 if is_finite else self._skipped_in_a_row + 1
        if self._skipped_in_a_row >= _MAX_SKIPPED_STEPS:
            raise Sa2vaError(
                f"The stage {self.plan.name} stopped: the loss or its gradient was not finite in "
                f"{_MAX_SKIPPED_STEPS} steps in a row.",
                hint="Start over with another seed; the last saved state may already be damaged.",
            )

    def save(self) -> None:
        """Write the state, all or nothing."""
        state = {
            "elapsed_s": self._elapsed_s,
            "steps": self._done,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.state_path)

    def _set_rates(self, progress: float) -> None:
        warm_up_steps = max(1, min(_MAX_WARM_UP_STEPS, self.plan.steps // 10))
        warm_up = min(1.0, (self._done + 1) / warm_up_steps)
        for optimizer, peaks in zip(self.optimizers, self._peak_rates, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * warm_up * self.schedule(progress)

    def _write_log(self) -> None:
        means = self._log.write(self._done, self._elapsed_s)
        if means:
            message = " ".join(f"{name}={mean:.3f}" for name, mean in means.items())
            self.run.report(self.plan.name, self._done, self.plan.steps, message)


def load_modules(state_path: Path, modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Load the weights that a stage saved into modules of the same names; returns all that it saved."""
    state: dict[str, Any] = torch.load(state_path, map_location="cpu", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    return state
