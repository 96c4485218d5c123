"""Where a model runs, in which number formats, and how much at once: chosen in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sa2va_tools.errors import RequestError
from sa2va_tools.model.device.memory_policy import BatchSizes
from sa2va_tools.wording import setting

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_STATM = Path("/proc/self/statm")
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device, and its memory in bytes."""

    name: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Accelerators:
    """The accelerators that torch finds; `cuda_build` is the CUDA version that torch was built for."""

    gpus: tuple[Gpu, ...]
    mps_bytes: int | None
    cuda_build: str | None


def find_accelerators() -> Accelerators:
    """Ask torch."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Accelerators(
        tuple(Gpu(torch.cuda.get_device_name(n), *torch.cuda.mem_get_info(n)) for n in range(count)),
        torch.mps.recommended_max_memory() if torch.backends.mps.is_available() else None,
        torch.version.cuda,
    )


def choose_devices(wanted: str) -> tuple[torch.device, ...]:
    """`cuda:0,cuda:1` names several GPUs; anything else is one device, see `choose_device`."""
    names = wanted.split(",")
    are_different_gpus = len(set(names)) == len(names) and all(name.startswith("cuda:") for name in names)
    if len(names) > 1 and not are_different_gpus:
        raise RequestError(
            f"The device {wanted!r} must list different GPUs.", hint="Write it like cuda:0,cuda:1."
        )
    return tuple(choose_device(name) for name in names)


def free_bytes(device: torch.device) -> int | None:
    """Free memory: on a GPU including what torch holds there without using it, of the host what Linux can
    give. None where the system does not tell."""
    if device.type == "cpu":
        return _free_host_bytes()
    if device.type != "cuda":
        return None
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + idle


def _free_host_bytes() -> int | None:
    """Includes swap; respects the limits of a container and of the process."""
    try:
        memory = _read_table(_MEMINFO)
        free = min(1024 * (memory["MemAvailable"] + memory.get("SwapFree", 0)), _remaining_address_space())
    except (OSError, ValueError, KeyError):
        return None
    free = int(free)
    try:
        most, used = (int((_CGROUP / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
        files = _read_table(_CGROUP / "memory.stat")  # cached file contents count as used but can be dropped
        return min(free, max(0, most - used + files["inactive_file"] + files["active_file"]))
    except (OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        return free


def _remaining_address_space() -> float:
    """Bytes under the limit of `ulimit -v`; infinity without a limit."""
    import resource  # Unix only, like the file that is read here

    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return math.inf
    pages = int(_STATM.read_text("ascii").split()[0])
    return max(0, most - pages * resource.getpagesize())


def _read_table(path: Path) -> dict[str, int]:
    """Lines of a name and a number, as a dictionary."""
    words = (line.split() for line in path.read_text("ascii").splitlines())
    return {name.rstrip(":"): int(value) for name, value, *_ in words}


def choose_device(wanted: str) -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU; `cuda:1` is the second GPU. Raises RequestError for a device
    that is not available."""
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
            hint=f"Set {setting('device')} to auto, or install a torch build for your GPU.",
        )
    return torch.device(name)


def choose_threads(device: torch.device, *, small: bool) -> int | None:
    """CPU threads for a model's work; None leaves torch's own number.

    Small models get one: their operations are too short to share, and on a busy machine the threads would
    spend their time waiting for each other (20 times slower, measured on two busy cores).
    """
    return 1 if small and device.type == "cpu" else None


def choose_batch_sizes(device: torch.device, *, small: bool) -> BatchSizes:
    """Several frames or objects at once where one leaves the device idle; one where one fills it, which also
    makes cancelling quicker. A tracked object of a full-size SAM-2 takes about 300 MB."""
    fills_device = device.type == "cpu" and not small
    return BatchSizes(
        frames=8 if small or device.type == "cuda" else 1,
        objects=1 if fills_device else 16,
    )


def cpu_threads(count: int | None) -> AbstractContextManager[None]:
    """Use that many threads in this block; None changes nothing."""
    if count is None or count == torch.get_num_threads():
        return nullcontext()
    return _change_setting(torch.get_num_threads, torch.set_num_threads, count)


def exact_convolutions(*parameters: torch.Tensor) -> AbstractContextManager[None]:
    """In this block float32 convolutions on CUDA are exact, if any of these parameters is float32 there: by
    default torch rounds their inputs to 10 bits (TF32)."""
    if not any(each.device.type == "cuda" and each.dtype == torch.float32 for each in parameters):
        return nullcontext()
    # torch 2.9 added a switch for convolutions alone; once it is used, the old one raises an error.
    cudnn: Any = torch.backends.cudnn
    owner, name, exact = (
        (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    )
    return _change_setting(partial(getattr, owner, name), partial(setattr, owner, name), exact)


def fast_attention(device: torch.device) -> AbstractContextManager[None]:
    """In this block scaled_dot_product_attention does not use cuDNN on a GPU: cuDNN plans anew for every
    length of keys (55 ms each on an H200), and each generated token and each of the first tracked frames is a
    new length. The first token of a 4B checkpoint took 25 times as long with it."""
    if device.type != "cuda":
        return nullcontext()
    return _change_setting(torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp, False)


@contextmanager
def _change_setting(read: Callable[[], Any], write: Callable[[Any], object], value: object) -> Iterator[None]:
    """For one block."""
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


def synchronize(device: torch.device) -> None:
    """Wait until everything that was launched on a CUDA device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True, slots=True)
class Precision:
    """Number formats of a model's parts."""

    modules: torch.dtype
    image_encoder: torch.dtype
    """Of SAM-2."""
    memory_attention: torch.dtype
    """Of the large matrix products of SAM-2's memory attention, on a CPU."""


def choose_precision(wanted: str, device: torch.device, *, small: bool) -> Precision:
    """`auto` is bfloat16 on CUDA, as the published models run, and float32 elsewhere and for small models,
    which lose time and precision by bfloat16. On a CPU that multiplies bfloat16, SAM-2's image encoder and
    memory attention use it (0.4 and 0.6 of float32's time at Hiera-L size). Any other value is the format of
    everything: `float32` is exact."""
    if wanted != "auto":
        dtype = _DTYPES[wanted]
        return Precision(dtype, dtype, dtype)
    if small or device.type != "cuda":
        fast = device.type == "cpu" and not small and multiplies_bfloat16()
        large = torch.bfloat16 if fast else torch.float32
        return Precision(torch.float32, large, large)
    return Precision(torch.bfloat16, torch.bfloat16, torch.bfloat16)


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it (AVX-512 BF16, AMX, or Arm's)."""
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)  # from torch 2.11 on
    found = get_capabilities() if get_capabilities is not None else {}
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
