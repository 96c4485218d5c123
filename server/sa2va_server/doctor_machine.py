"""What `sa2va doctor` looks at outside the program: memory, disk, GPU, the hub, allowed folders."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from sa2va_server.cli_session import Session
from sa2va_server.findings import Finding

_GIB = 2**30
_LITTLE_MEMORY, _LITTLE_DISK = 2 * _GIB, 5 * _GIB
_HUB_TIMEOUT_S = 5.0


def gpu(_: Session) -> Finding:
    """Devices, with their memory."""
    if importlib.util.find_spec("torch") is None:
        return Finding("gpu", "warn", "unknown: torch is not installed")
    from sa2va_tools.model.device import accelerators

    found = accelerators()
    if found.gpus:
        each = (f"{gpu.name}, {gpu.free / _GIB:.1f} of {gpu.total / _GIB:.1f} GiB free" for gpu in found.gpus)
        return Finding("gpu", "ok", f"CUDA {found.cuda_build}: {'; '.join(each)}")
    if found.mps_bytes is not None:
        return Finding("gpu", "ok", f"MPS, {found.mps_bytes / _GIB:.1f} GiB usable")
    if found.cuda_build is None:
        detail, remedy = (
            "none that torch can use: this torch was built for the CPU alone",
            ("With an NVIDIA GPU install torch's CUDA build (pytorch.org). Without one the nano works."),
        )
    else:
        detail, remedy = (
            f"none: torch was built for CUDA {found.cuda_build}, but finds no device or driver",
            ("Run nvidia-smi: it tells whether the driver is there and how old it is."),
        )
    return Finding("gpu", "warn", detail, remedy)


def memory(_: Session) -> Finding:
    """Of the machine, not of a GPU."""
    free = _free_memory()
    if free is None:
        return Finding("memory", "ok", "not known on this system")
    detail = f"{free / _GIB:.1f} GiB free"
    if free < _LITTLE_MEMORY:
        return Finding("memory", "warn", detail, "Close other programs: loading the nano takes 0.6 GiB.")
    return Finding("memory", "ok", detail)


def disk(session: Session) -> Finding:
    """Where handles and where checkpoints are kept."""
    places = {"store": session.settings().store_dir, "hub cache": _hub_cache()}
    free = {name: _free_disk(place) for name, place in places.items() if place is not None}
    detail = ", ".join(f"{name} {size / _GIB:.1f} GiB free" for name, size in free.items())
    if min(free.values()) < _LITTLE_DISK:
        return Finding(
            "disk", "warn", detail, "A checkpoint takes 4 to 100 GiB: set HF_HOME to a larger disk."
        )
    return Finding("disk", "ok", detail)


def hub(_: Session) -> Finding:
    """Needed for `sa2va pull` alone."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return Finding("hub", "warn", "huggingface-hub is not installed", 'pip install "sa2va-tools[engine]"')
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "warn", "HF_HUB_OFFLINE is set", "Unset it to pull checkpoints.")
    try:
        httpx.head(constants.ENDPOINT, timeout=_HUB_TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError as error:
        return Finding(
            "hub",
            "warn",
            f"{constants.ENDPOINT} cannot be reached ({type(error).__name__})",
            "Only `sa2va pull` needs it. Set HF_ENDPOINT to a mirror, or HTTPS_PROXY.",
        )
    return Finding("hub", "ok", f"{constants.ENDPOINT} answers")


def roots(session: Session) -> Finding:
    """Folders that agents may read through `sa2va mcp`."""
    named = session.settings().roots
    if not named:
        return Finding("roots", "ok", "none set: name them to the server, sa2va mcp --root DIR")
    lacking = [str(root) for root in named if not root.expanduser().is_dir()]
    if lacking:
        return Finding("roots", "warn", f"no folders: {', '.join(lacking)}", "Correct SA2VA_ROOTS.")
    return Finding("roots", "ok", ", ".join(map(str, named)))


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _hub_cache() -> Path | None:
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _free_disk(place: Path) -> int:
    existing = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free
