"""Milliseconds on the device, and those that Python needs to launch the work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring import measure_seconds
from sa2va_tools.model.device.placement import synchronize

Work = Callable[[], object]


def measure_device_ms(work: Work, device: torch.device, *, repeats: int = 7) -> float:
    """Median time of one run on the device, after two that do not count."""
    for _ in range(2):
        work()
    run = _run_between_events if device.type == "cuda" else _run_on_cpu
    synchronize(device)
    return round(statistics.median(run(work) for _ in range(repeats)), 3)


def _run_between_events(work: Work) -> float:
    cuda: Any = torch.cuda
    began = cuda.Event(enable_timing=True)
    ended = cuda.Event(enable_timing=True)
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended))


def _run_on_cpu(work: Work) -> float:
    return 1000 * measure_seconds(work, torch.device("cpu"))


def measure_launch_ms(work: Work, device: torch.device, *, repeats: int = 5) -> float:
    """Median time until everything of one run is launched. On a CPU that is the whole run."""
    times = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    synchronize(device)
    return round(statistics.median(times), 3)


def measure_device_use(work: Work, device: torch.device) -> dict[str, float]:
    """How many kernels and copies a CUDA device runs, and during which share of the time."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        seconds = measure_seconds(work, device)
    events: Any = [event for event in profiler.events() if event.device_type.name == "CUDA"]
    busy_s = sum(event.device_time_total for event in events) / 1e6
    return {"activities": len(events), "busy_share": round(busy_s / seconds, 3), "seconds": round(seconds, 3)}
