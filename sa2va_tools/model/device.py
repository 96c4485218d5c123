"""Where a model runs and in which number format: chosen in one place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sa2va_tools.errors import RequestError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_STATM = Path("/proc/self/statm")
_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device, and its memory in bytes."""

    name: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Accelerators:
    """What torch finds beside the CPU; `cuda_build` is the CUDA version that this torch was made for."""

    gpus: tuple[Gpu, ...]
    mps_bytes: int | None
    cuda_build: str | None


def accelerators() -> Accelerators:
    """Look for them."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Accelerators(
        tuple(Gpu(torch.cuda.get_device_name(n), *torch.cuda.mem_get_info(n)) for n in range(count)),
        torch.mps.recommended_max_memory() if torch.backends.mps.is_available() else None,
        torch.version.cuda,
    )


def choose_devices(wanted: str) -> tuple[torch.device, ...]:
    """`cuda:0,cuda:1` names several GPUs; anything else is one device, see `choose_device`."""
    names = wanted.split(",")
    several = len(names) > 1
    if several and not (len(set(names)) == len(names) and all(name.startswith("cuda:") for name in names)):
        raise RequestError(f"{wanted!r} is no list of different GPUs.", hint="Write it like cuda:0,cuda:1.")
    return tuple(choose_device(name) for name in names)


def free_bytes(device: torch.device) -> int | None:
    """What is free on a GPU, with what torch holds there without using it; of host memory what the system
    would give, on Linux. None where nobody tells."""
    if device.type == "cpu":
        return _free_host_bytes()
    if device.type != "cuda":
        return None
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + idle


def _free_host_bytes() -> int | None:
    """With what can be swapped out, and within the limits of a container and of the process."""
    try:
        memory = _table(_MEMINFO)
        free = min(1024 * (memory["MemAvailable"] + memory.get("SwapFree", 0)), _left_to_the_process())
    except (OSError, ValueError, KeyError):
        return None
    free = int(free)
    try:
        most, used = (int((_CGROUP / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
        files = _table(_CGROUP / "memory.stat")  # what was read of files counts as used, and can be let go
        return min(free, max(0, most - used + files["inactive_file"] + files["active_file"]))
    except (OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        return free


def _left_to_the_process() -> float:
    """Bytes of addresses (`ulimit -v`); infinity without a limit."""
    import resource  # of Unix, as the file that is read here

    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return math.inf
    pages = int(_STATM.read_text("ascii").split()[0])
    return max(0, most - pages * resource.getpagesize())


def _table(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    words = (line.split() for line in path.read_text("ascii").splitlines())
    return {name.rstrip(":"): int(value) for name, value, *_ in words}


def choose_device(wanted: str) -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU; `cuda:1` is the second GPU. Raises RequestError for a device
    that is not there."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    name = next(name for name, there in available.items() if there) if wanted == "auto" else wanted
    kind, _, number = name.partition(":")
    there = available.get(kind, False)
    if not there or (number and int(number) >= torch.cuda.device_count()):
        raise RequestError(
            f"The device {wanted!r} is not available here (available: "
            f"{', '.join(name for name, there in available.items() if there)}).",
            hint="Use --device auto, or install a torch build for your GPU.",
        )
    return torch.device(name)


def choose_threads(wanted: int | None, device: torch.device, *, small: bool) -> int | None:
    """CPU threads for a model's work; None leaves torch's own number. Models as small as the embedded
    one take one: their operations are too short to share, and beside other work the threads would
    spend their time waiting for each other (20 times slower, measured on two busy cores)."""
    if wanted is None and small and device.type == "cpu":
        return 1
    return wanted


@dataclass(frozen=True, slots=True)
class Pace:
    """How much of a video is worked on at once."""

    batch: int = 1
    """Frames that go through SAM-2's image encoder together."""
    group: int = 16
    """Objects that are followed together."""
    window: int = 1
    """Side of the squares of memory tokens that are taken together; 1 is exact."""


AT_EASE = Pace()
"""One frame at a time, exact."""


def choose_pace(device: torch.device, *, small: bool, fast: bool = False) -> Pace:
    """Several frames where a single one leaves the device idle, one where a frame fills it; objects likewise,
    as memory allows (a followed object takes some 300 MB of a full-size SAM-2). One by one a cancel is heard
    sooner, too."""
    alone = device.type == "cpu" and not small
    return Pace(batch=8 if small or device.type == "cuda" else 1, group=1 if alone else 16, window=1 + fast)


def choose_cache_bytes(wanted: int | None, *, small: bool) -> int:
    """What may be kept of media that was seen. Small models get little: they see quickly, and their memory is
    to stay flat however long a video is."""
    if wanted is None:
        return 2**26 if small else 2**31
    return wanted


def choose_host_bytes(kept: int, device: torch.device) -> int:
    """What may be kept in host memory beside the `kept` bytes on a GPU: twice as much. A CPU and MPS have no
    second memory."""
    return 2 * kept if device.type == "cuda" else 0


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """That many threads in this block; torch's number before is restored. None changes nothing."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def exact_convolutions(*homes: torch.Tensor) -> Iterator[None]:
    """In this block float32 on CUDA is float32, where any of these parameters are: torch's default lets
    convolutions round to 10 bits (TF32)."""
    if not any(home.device.type == "cuda" and home.dtype == torch.float32 for home in homes):
        yield
        return
    # From torch 2.9 on there is a switch for convolutions alone; where it is used, the old one fails.
    cudnn: Any = torch.backends.cudnn
    place, name, exact = (
        (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    )
    before = getattr(place, name)
    setattr(place, name, exact)
    try:
        yield
    finally:
        setattr(place, name, before)


def wait_for(device: torch.device) -> None:
    """Until all that was begun on a CUDA device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def choose_dtype(wanted: str, device: torch.device, *, small: bool) -> torch.dtype:
    """`auto`: bfloat16 on CUDA, as the published models run; float32 elsewhere, and for models as
    small as the embedded one, where bfloat16 loses time and precision."""
    if wanted == "auto":
        return torch.bfloat16 if device.type == "cuda" and not small else torch.float32
    return _DTYPES[wanted]


def choose_encoder_dtype(
    wanted: str, dtype: torch.dtype, asked: str, device: torch.device, *, small: bool
) -> torch.dtype:
    """SAM-2's image encoder beside modules of `dtype`, which was `asked` for.

    `auto` is bfloat16 on a CPU that multiplies it: at Hiera-L size the encoder then takes 0.4 of float32's
    time (0.54 without AMX), the other modules no less. Never for small models, which lose time by it.
    """
    if wanted != "auto":
        return _DTYPES[wanted]
    pays = asked == "auto" and device.type == "cpu" and not small and multiplies_bfloat16()
    return torch.bfloat16 if pays else dtype


def choose_attention_dtype(
    wanted: str, dtype: torch.dtype, asked: str, device: torch.device, *, small: bool, ours: bool = True
) -> torch.dtype:
    """The large product of SAM-2's memory attention, beside modules of `dtype`, which was `asked` for.

    `auto` is bfloat16 on a CPU that multiplies it: at Hiera-L size a frame then attends in 0.6 to 0.7 of
    float32's time. RequestError for anything else where the product is not `ours`: on other devices, and in
    the modules of the package sam2.
    """
    possible = ours and device.type == "cpu"
    if wanted != "auto" and not possible:
        raise RequestError(
            "A number format for memory attention alone is for CPUs, and for the modules of transformers.",
            hint="Unset SA2VA_ATTENTION_DTYPE; SA2VA_DTYPE is the format of all modules.",
        )
    if wanted != "auto":
        return _DTYPES[wanted]
    pays = possible and asked == "auto" and not small and multiplies_bfloat16()
    return torch.bfloat16 if pays else dtype


def multiplies_bfloat16() -> bool:
    """Has this CPU instructions for it (AVX-512 BF16, AMX, or Arm's)?"""
    tell = getattr(torch.cpu, "get_capabilities", None)  # from torch 2.11 on
    able = tell() if tell is not None else {}
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
