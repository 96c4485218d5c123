"""Running out of memory: told in our words, or noticed, so that smaller steps can be taken."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

import torch

from sa2va_tools.errors import OutOfMemoryError

Made = TypeVar("Made")
_SIGNS = ("out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class memory_guard:  # noqa: N801  used like a function
    """Turns torch's out-of-memory into ours, and gives the memory back."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and is_out_of_memory(error):
            # Whoever holds the error would hold the tensors of the calls that it came through.
            traceback.clear_frames(error.__traceback__)
            release()
            raise OutOfMemoryError(
                f"{self.what} did not fit into the device's memory{f': {error}' if str(error) else ''}.",
                hint="Ask for fewer things at once, or take fewer key frames, smaller pictures or a smaller "
                "checkpoint.",
            ) from error


def attempt(work: Callable[[], Made]) -> Made | None:
    """What `work` makes; None where the memory did not suffice, with everything of the attempt let go."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Only here is the error gone, and with it the tensors in the frames of its traceback.
    release()
    return None


def release() -> None:
    """Give what torch holds back to the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """On CUDA torch has a class for it; its CPU and MPS allocators raise RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(sign in said for sign in _SIGNS)
