"""Training in several processes: they are started, watched and stopped, and they average their gradients.

For small models on a CPU this is faster than several threads, which find little to share within one
operation. Knows nothing of what the processes do.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sa2va_tools.errors import Sa2vaError
from sa2va_tools.run import Progress, Run
from sa2va_tools.training.device import single_thread

_POLL_S = 0.5
_NEXT_REPORT_S = 0.01
# By default glibc returns large blocks to the system in every step, and the system clears them again, which
# takes a third of a step's time. These variables must be set before a process starts.
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_NUM_THREADS": "1",
}

Work = Callable[[Run], None]
"""What a process does; must be picklable. The run that it is given reports to the run of the group."""


class ProcessGroup:
    """Processes of one CPU thread each; `run` reports their progress and ends them when cancelled."""

    def __init__(self, run: Run, *, failure_hint: str) -> None:
        self._run = run
        self._failure_hint = failure_hint
        self._context = mp.get_context("spawn")
        self._reports: Any = self._context.Queue()

    def start(self, work: Work) -> BaseProcess:
        """Start `work` in a new process."""
        process = self._context.Process(target=_do_work, args=(work, self._reports), daemon=True)
        with _environment(_ENVIRONMENT):
            process.start()
        return process

    def wait(self, processes: Sequence[BaseProcess]) -> None:
        """Return when all have ended. If one fails, or the run is cancelled, the others are stopped.

        Raises Sa2vaError with the group's hint, or CancelledError.
        """
        try:
            running = True
            while running:
                running = any(process.is_alive() for process in processes)
                self._run.raise_if_cancelled()
                self._forward_reports()
                if any(process.exitcode not in (None, 0) for process in processes):
                    raise Sa2vaError(
                        "A training process ended with an error, which is printed above.",
                        hint=self._failure_hint,
                    )
        finally:
            for process in processes:
                process.terminate()
                process.join()

    def _forward_reports(self) -> None:
        """Forward what the processes have reported; wait a moment for the first report."""
        wait_s = _POLL_S
        while True:
            try:
                report: Progress = self._reports.get(timeout=wait_s)
            except queue.Empty:
                return
            self._run.report(report.stage, report.done, report.total, report.message)
            wait_s = _NEXT_REPORT_S


def _do_work(work: Work, reports: Any) -> None:
    with single_thread():
        work(Run(reports.put))


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables in this block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True, slots=True)
class Workers:
    """This process's rank among `count` processes. With one process, every method does nothing."""

    rank: int = 0
    count: int = 1

    @classmethod
    @contextmanager
    def join(cls, meeting_file: Path, rank: int, count: int) -> Iterator[Workers]:
        """In this block, be connected to the other processes through a file that none of them has created."""
        if count == 1:
            yield cls(rank, count)
            return
        # A store, not a file:// URL: torch decodes those (spaces, drive letters) on Windows only.
        store = dist.FileStore(str(meeting_file), count)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
        try:
            yield cls(rank, count)
        finally:
            # A process that ends while gloo's threads still run is sometimes aborted (in one of six ends).
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """A gradient that is missing in this process counts as zero if another process has one. It stays
        missing if no process has one: optimizers must not move parameters that no batch used."""
        if self.count == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        has_gradient = torch.tensor([float(parameter.grad is not None) for parameter in trained])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        flat = torch.cat([has_gradient, *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(flat)
        users = flat[: len(trained)].tolist()
        average = flat[len(trained) :] / self.count
        start = 0
        for parameter, used in zip(trained, users, strict=True):
            piece = average[start : start + parameter.numel()]
            parameter.grad = piece.view_as(parameter).clone() if used else None
            start += parameter.numel()

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors of every process with those of the first one."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)


SINGLE_WORKER = Workers()
"""One process on its own."""
