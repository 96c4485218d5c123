"""Time, memory and processes of their own: what the measurements share. Linux and macOS."""

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

from sa2va_tools.model.device import choose_threads, cpu_threads, exact_convolutions

ROOT = Path(__file__).parents[1]
MIB = 2**20
_STATUS = Path("/proc/self/status")
_LONG_S = 30.0


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def fair_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of one run, where that is long. Else the median of three, after one that loads kernels and fills the
    allocator: whatever goes first would pay for it."""
    first = timed(work, device)
    return first if first > _LONG_S else statistics.median(timed(work, device) for _ in range(3))


def repeated_seconds(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Of so many runs without a break, as in a walk through a clip. Where one is long, the median of three,
    multiplied."""
    if timed(work, device) > 1:
        return times * statistics.median(timed(work, device) for _ in range(3))
    return fair_seconds(lambda: [work() for _ in range(times)], device)


@contextmanager
def as_the_engine(device: torch.device, *, small: bool) -> Iterator[None]:
    """In this block bare modules have the CPU threads, and float32 the exactness, that the engine gives."""
    with (
        cpu_threads(choose_threads(None, device, small=small)),
        exact_convolutions(torch.empty(0, device=device)),
    ):
        yield


def run_alone(module: str, *arguments: object) -> dict[str, Any]:
    """What `python -m module arguments` prints as JSON. RuntimeError with its last words when it fails."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[1:])} ended with {done.returncode}: {done.stderr[-2000:]}")
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def process_peak() -> int:
    """The most bytes of memory that this process has held so far."""
    # Linux begins a child's ru_maxrss at its parent's, so only the kernel's own mark is honest there.
    if _STATUS.exists():
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_peak(device: torch.device) -> int:
    """Bytes at the highest: of the process on a CPU, of torch's allocator on CUDA."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else process_peak()


def growth(work: Callable[[], object], device: torch.device) -> int:
    """Bytes by which `work` raised the peak over what was held when it began."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        with suppress(OSError):  # where it is refused, an earlier peak hides a lower one
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status("VmRSS") if _STATUS.exists() else process_peak()
    work()
    return memory_peak(device) - before


def _status(name: str) -> int:
    line = next(line for line in _STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
