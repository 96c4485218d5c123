"""Training in several processes: they meet, agree, report, and end together."""

from __future__ import annotations

import multiprocessing
from functools import partial
from pathlib import Path

import pytest
import torch

from sa2va_tools.errors import CancelledError, Sa2vaError
from sa2va_tools.run import Progress, Run
from sa2va_tools.training.processes import SINGLE_WORKER, ProcessGroup, Workers

COUNT = 2


def agree(meeting: Path, rank: int, run: Run) -> None:
    """In a process: a gradient that all have, one that only the first has, one that none has."""
    parameters = [torch.nn.Parameter(torch.full((2,), float(rank))) for _ in range(3)]
    with Workers.join(meeting, rank, COUNT) as workers:
        workers.broadcast(parameters)
        assert all((parameter == 0).all() for parameter in parameters)
        parameters[0].grad = torch.full((2,), float(rank + 1))
        if workers.is_first:
            parameters[1].grad = torch.ones(2)
        workers.average_gradients(parameters)
    assert not torch.distributed.is_initialized()
    assert parameters[0].grad.tolist() == [1.5, 1.5]
    assert parameters[1].grad.tolist() == [0.5, 0.5]
    assert parameters[2].grad is None
    run.report("agree", rank, COUNT)


def fail(run: Run) -> None:
    raise RuntimeError("on purpose")


def sleep(run: Run) -> None:
    multiprocessing.Event().wait()


def test_processes_agree_on_gradients_in_a_folder_with_a_space(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    reports: list[Progress] = []
    processes = ProcessGroup(Run(reports.append), failure_hint="")
    works = [partial(agree, folder / "meeting", rank) for rank in range(COUNT)]
    processes.wait([processes.start(work) for work in works])
    assert sorted(report.done for report in reports) == [0, 1]


def test_when_one_process_fails_the_others_are_stopped(capfd):
    processes = ProcessGroup(Run(), failure_hint="Look above.")
    started = [processes.start(fail), processes.start(sleep)]
    with pytest.raises(Sa2vaError, match="ended with an error") as raised:
        processes.wait(started)
    assert raised.value.hint == "Look above."
    assert not any(process.is_alive() for process in started)
    assert "on purpose" in capfd.readouterr().err


def test_a_cancelled_run_stops_its_processes():
    run = Run()
    processes = ProcessGroup(run, failure_hint="")
    started = [processes.start(sleep)]
    run.cancel()
    with pytest.raises(CancelledError):
        processes.wait(started)
    assert not started[0].is_alive()


def test_a_single_worker_changes_nothing():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    SINGLE_WORKER.broadcast([parameter])
    SINGLE_WORKER.average_gradients([parameter])
    assert parameter.grad.tolist() == [1, 1] and SINGLE_WORKER.is_first
