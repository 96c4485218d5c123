"""A training stage in time: how far it is, what it logs, how it is resumed. Knows nothing of losses or data.

A stage is a number of steps, and every step draws from generators of its own: the same seed gives the same
weights, also when the stage was broken off and went on from its last saved state.
"""

from __future__ import annotations

import csv
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sa2va_tools.atomic import write_bytes
from sa2va_tools.errors import CancelledError, Sa2vaError
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress
from sa2va_tools.training.device import CPU
from sa2va_tools.training.workers import Workers

_SKIPS_IN_A_ROW = 50

Schedule = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its number in the stage, the part (0 … 1) of the stage that has passed, and generators of its
    own, on the CPU."""

    number: int
    progress: float
    rng: random.Random
    noise: torch.Generator


class StageRun:
    """The loop of one stage over named modules (on `device` already) and their optimisers.

    Iterate over it for steps, call `learn` once in each. Every `save_every_s`, and when it is cancelled, the
    state goes into `folder/<name>.state.pt`, from which a later run with the same name and folder goes on.
    Means of the values passed to `learn` go into `folder/<name>.csv` every `log_every` steps (None: 25, and
    more often in a short stage): step, seconds, name, mean. `batch_share` scales what `clips` answers; with
    `repeats_after` a step draws what the one that many before it drew.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        steps: int,
        seed: int,
        modules: Mapping[str, nn.Module],
        optimizers: list[Optimizer],
        schedule: Schedule,
        save_every_s: float = 90,
        log_every: int | None = None,
        batch_share: float = 1.0,
        repeats_after: int | None = None,
        device: torch.device = CPU,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.name, self.folder, self.steps, self.seed = name, folder, steps, seed
        self.device, self._batch_share, self._repeats_after = device, batch_share, repeats_after
        self._modules, self._optimizers, self._schedule = modules, optimizers, schedule
        self._save_every_s = save_every_s
        self._log_every = log_every or min(25, max(1, steps // 10))
        self._on_progress, self._cancel = on_progress, cancel or CancelToken()
        self._workers = workers or Workers()
        self._peak_rates = [[group["lr"] for group in o.param_groups] for o in optimizers]
        self._logged: dict[str, list[Tensor | float]] = defaultdict(list)
        self._elapsed_s = 0.0
        self._done = 0
        self._skipped = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self.state_path.exists():
            self._resume()
        if self._workers.is_first:
            self._forget_what_is_repeated()

    @property
    def state_path(self) -> Path:
        return self.folder / f"{self.name}.state.pt"

    @property
    def csv_path(self) -> Path:
        return self.folder / f"{self.name}.csv"

    def share_of(self, count: int, least: int = 2) -> int:
        """How many of `count` clips of a batch, or turns of a clip, this run takes."""
        return max(least, round(count * self._batch_share))

    def __iter__(self) -> Iterator[Step]:
        last_saved = time.monotonic()
        for module in self._modules.values():
            self._workers.start_alike(module.state_dict().values())
        while self._done < self.steps:
            self._stop_if_cancelled()
            began = time.monotonic()
            progress = self._done / self.steps
            self._set_rates(progress)
            yield self._step(progress)
            self._done += 1
            self._elapsed_s += time.monotonic() - began
            if not self._workers.is_first:
                continue
            if self._done % self._log_every == 0:
                self._log()
            if time.monotonic() - last_saved > self._save_every_s:
                self.save()
                last_saved = time.monotonic()
        if self._workers.is_first:
            self._log()
            self.save()

    def _stop_if_cancelled(self) -> None:
        try:
            self._cancel.raise_if_cancelled()
        except CancelledError:
            if self._workers.is_first:
                self.save()
            raise

    def _step(self, progress: float) -> Step:
        drawn = self._done % self._repeats_after if self._repeats_after else self._done
        rng = random.Random(f"{self.name} {self.seed} {self._workers.rank} {drawn}")
        noise = torch.Generator().manual_seed(rng.getrandbits(48))
        return Step(self._done, progress, rng, noise)

    def learn(self, loss: Tensor, values: Mapping[str, Tensor | float], *, name: str = "loss") -> None:
        """One optimiser step on `loss`; it, as `name`, and `values` are averaged into the log. `values` may
        name it themselves where parts of it come and go: a curve is of one thing. A loss or a gradient that
        is not finite is skipped, neither learnt nor logged. Raises Sa2vaError when steps in a row come to
        that."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        if torch.isfinite(loss):
            loss.backward()
        modules = self._modules.values()
        self._workers.average_gradients(p for module in modules for p in module.parameters())
        norms = [nn.utils.clip_grad_norm_(module.parameters(), 1.0) for module in modules]
        steps = all(bool(torch.isfinite(norm)) for norm in norms)
        if steps:
            for optimizer in self._optimizers:
                optimizer.step()
        finite = steps and bool(torch.isfinite(loss))
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped >= _SKIPS_IN_A_ROW:
            raise Sa2vaError(
                f"The {self.name} stage stopped learning: {self._skipped} steps in a row were not finite.",
                hint="Train anew with another seed; the state saved last may hold the cause.",
            )
        if not self._workers.is_first:
            return
        self._logged["skipped"].append(float(not finite))
        for key, value in {name: loss, **values}.items() if finite else ():
            self._logged[key].append(value.detach() if isinstance(value, Tensor) else value)

    def save(self) -> None:
        """Write the state, all or nothing."""
        state = {
            "elapsed_s": self._elapsed_s,
            "steps": self._done,
            "modules": {name: module.state_dict() for name, module in self._modules.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.state_path)

    def _resume(self) -> None:
        state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        self._elapsed_s, self._done = state["elapsed_s"], state["steps"]
        for name, module in self._modules.items():
            module.load_state_dict(state["modules"][name])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _forget_what_is_repeated(self) -> None:
        """Take out of the log what came after the saved state: it will come again."""
        if not self.csv_path.exists():
            return
        lines = self.csv_path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= self._done]
        write_bytes(self.csv_path, "".join(kept).encode())

    def _set_rates(self, progress: float) -> None:
        warm_up = min(1.0, (self._done + 1) / max(1, min(50, self.steps // 10)))
        for optimizer, peaks in zip(self._optimizers, self._peak_rates, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * warm_up * self._schedule(progress)

    def _log(self) -> None:
        if not self._logged:
            return
        means = {key: sum(float(v) for v in values) / len(values) for key, values in self._logged.items()}
        self._logged.clear()
        if not means["skipped"]:
            del means["skipped"]
        with self.csv_path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            for key, mean in means.items():
                writer.writerow((self._done, round(self._elapsed_s, 1), key, round(mean, 5)))
        words = " ".join(f"{key}={mean:.3f}" for key, mean in means.items())
        self._on_progress(Progress(self.name, self._done, self.steps, words))


def load_modules(state_path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Weights that an earlier stage saved, into modules of the same names."""
    state = torch.load(state_path, map_location="cpu", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
