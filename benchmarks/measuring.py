"""Time, memory and separate processes: what all measurements share. For Linux and macOS."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from sa2va_tools.model.device.placement import (
    choose_threads,
    cpu_threads,
    exact_convolutions,
    fast_attention,
    synchronize,
)

ROOT = Path(__file__).parents[1]
MIB = 2**20
_STATUS = Path("/proc/self/status")
_LONG_S = 30.0

Work = Callable[[], object]


def measure_seconds(work: Work, device: torch.device) -> float:
    """Seconds of one run, until the device is done."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def measure_median(work: Work, device: torch.device, repeats: int) -> float:
    """Median seconds of some runs, after one that does not count."""
    work()
    return statistics.median(measure_seconds(work, device) for _ in range(repeats))


def measure_fairly(work: Work, device: torch.device) -> float:
    """Seconds of the first run if it is long. Otherwise the median of three more, because the first run pays
    for loading kernels and for growing the allocator."""
    first = measure_seconds(work, device)
    if first > _LONG_S:
        return first
    return statistics.median(measure_seconds(work, device) for _ in range(3))


def measure_repeated(work: Work, times: int, device: torch.device) -> float:
    """Seconds of `times` runs without a pause, as in tracking a clip. If one run is long: the median of
    three, multiplied."""
    if measure_seconds(work, device) > 1:
        return times * statistics.median(measure_seconds(work, device) for _ in range(3))
    return measure_fairly(lambda: [work() for _ in range(times)], device)


@contextmanager
def engine_conditions(device: torch.device, *, small: bool) -> Iterator[None]:
    """In this block, modules run with the CPU threads, the exact float32 and the attention kernels that the
    engine would choose."""
    with (
        cpu_threads(choose_threads(device, small=small)),
        exact_convolutions(torch.empty(0, device=device)),
        fast_attention(device),
    ):
        yield


def run_module(module: str, *arguments: object) -> dict[str, Any]:
    """The JSON that `python -m module arguments` prints. RuntimeError with the end of its stderr if it
    fails."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        command = " ".join(words[1:])
        raise RuntimeError(f"{command} ended with status {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def print_json(result: object) -> None:
    """Print a result on stdout, for people and for `run_module`."""
    json.dump(result, sys.stdout, indent=1)
    print()


def default_device() -> str:
    """CUDA if torch finds it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def read_process_peak() -> int:
    """The most bytes of memory that this process has held so far."""
    # On Linux a child's ru_maxrss begins at its parent's, so only the kernel's own mark is honest.
    if _STATUS.exists():
        return _read_status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read_memory_peak(device: torch.device) -> int:
    """Peak in bytes: of torch's allocator on CUDA, otherwise of the process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else read_process_peak()


def measure_growth(work: Work, device: torch.device) -> int:
    """By how many bytes `work` raises the peak over what is held when it begins."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        with suppress(OSError):  # where this is forbidden, an earlier peak hides a lower one
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _read_status("VmRSS") if _STATUS.exists() else read_process_peak()
    work()
    return read_memory_peak(device) - before


def _read_status(name: str) -> int:
    line = next(line for line in _STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
