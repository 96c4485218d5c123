"""Out of memory, as torch says it on its devices: noticed, given back, and told in our words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from sa2va_tools.errors import OutOfMemoryError

Result = TypeVar("Result")


class memory_guard:  # noqa: N801  used like a function
    """Turns torch's out-of-memory into ours, and gives the memory back."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and is_out_of_memory(error):
            _give_back()
            raise _in_our_words(self.what, error) from error


def where_it_fits(work: Callable[[], Result]) -> Result | None:
    """What `work` returns; None where it ran out of memory, which is then given back."""
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Not inside the handler: the error's traceback holds on to all that did not fit.
    _give_back()
    return None


def is_out_of_memory(error: Exception) -> bool:
    """On CUDA torch has a class for it; its CPU and MPS allocators raise RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in said or "MPS backend out of" in said)


def _give_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _in_our_words(what: str, error: Exception) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"{what} did not fit into the device's memory: {error}.",
        hint="Use a shorter range or a larger stride, fewer expressions, a smaller checkpoint, or the CPU.",
    )
