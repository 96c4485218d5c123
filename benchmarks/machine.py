"""Where and of what a measurement was made: machine, versions, commit, and what the chip could do at most."""

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
_OURS = ("benchmarks/RESULTS.md", "benchmarks/*.png", "benchmarks/results")


def about(device: torch.device, threads: int) -> dict[str, str]:
    """Lines for people: device, processor, versions, day and commit."""
    gpu = {"device": device_name(device)} if device.type == "cuda" else {}
    return gpu | {
        "processor": f"{_processor()}, {os.cpu_count()} cores, {threads} torch threads",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
    }


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def chip_tflops(name: str) -> float | None:
    """The chip's dense bfloat16 peak; None for a chip that is not in the table."""
    if _OTHER_SOCKETS.search(name):
        return None
    known = (peak for words, peak in _DENSE_BF16_TFLOPS.items() if re.search(rf"\b{words}\b", name))
    return next(known, None)


def commit(root: Path = ROOT) -> str:
    """Short hash of HEAD, and a word where the tree differs from it in more than these results."""
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", ".", *(f":!{path}" for path in _OURS))
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
