"""Where a measurement was made: machine, versions, commit, and the most that the chip could do."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

from benchmarks.measuring import ROOT

_DENSE_BF16_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 4090": 165.0,
}
"""Published peaks by words of the device's name, without sparsity; H100 and H200 with SXM sockets."""
_OTHER_SOCKETS = re.compile(r"\b(PCIe|NVL)\b")
_RESULTS = ("benchmarks/RESULTS.md", "benchmarks/*.png", "benchmarks/results")


def describe_machine(device: torch.device, threads: int) -> dict[str, str]:
    """Lines for people: device, processor, versions, day and commit."""
    gpu = {"device": device_name(device)} if device.type == "cuda" else {}
    return gpu | {
        "processor": f"{_processor()}, {os.cpu_count()} cores, {threads} torch threads",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": find_commit(),
    }


def device_name(device: torch.device) -> str:
    """The GPU's own name, or the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def find_chip_tflops(name: str) -> float | None:
    """The chip's dense bfloat16 peak; None for a chip that is not in the table."""
    if _OTHER_SOCKETS.search(name):
        return None
    known = (peak for words, peak in _DENSE_BF16_TFLOPS.items() if re.search(rf"\b{words}\b", name))
    return next(known, None)


def find_commit(root: Path = ROOT) -> str:
    """The short hash of HEAD; "with changes" if the tree differs in more than these results. "unknown"
    outside a repository."""
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", ".", *(f":!{path}" for path in _RESULTS))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changed else head


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
