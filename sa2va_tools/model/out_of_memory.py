"""Running out of memory: told in our words, or noticed, so that smaller steps can be taken."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch

from sa2va_tools.errors import OutOfMemoryError
from sa2va_tools.shortage import lacks_memory, memory_is_short, words_of

Made = TypeVar("Made")
_ROOM_BYTES = 64 * 2**20
"""Host memory below which nothing large is begun: at its last bytes oneDNN crashes instead of saying so."""


class memory_guard:  # noqa: N801  used like a function
    """Turns the libraries' out-of-memory into ours, and gives the memory back."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or not is_out_of_memory(error):
            return
        # Whoever holds the error would hold the tensors of the calls that it came through.
        traceback.clear_frames(error.__traceback__)
        release()
        if isinstance(error, OutOfMemoryError):
            return  # it says already what did not fit
        where = "the device's memory" if _is_of_a_device(error) else "memory"
        raise OutOfMemoryError(
            f"{self.what} did not fit into {where}{words_of(error)}.",
            hint="Ask for fewer things at once, or take fewer key frames, smaller pictures or a smaller "
            "checkpoint.",
        ) from error


def attempt(work: Callable[[], Made]) -> Made | None:
    """What `work` makes; None where the memory did not suffice, with everything of the attempt let go."""
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Only here is the error gone, and with it the tensors in the frames of its traceback.
    release()
    return None


def with_room(work: Callable[[], Made], give_up: Callable[[], bool]) -> Made:
    """What `work` makes; where memory lacks, once more after `give_up` has let go of what is kept."""
    made = attempt(work)
    if made is None:
        give_up()
        made = work()
    return made


def in_parts(
    total: int,
    most: int,
    work: Callable[[slice], Made],
    *,
    give_up: Callable[[], bool],
    on_fewer: Callable[[int], None],
) -> tuple[list[Made], int]:
    """What `work` makes of 0 … `total`, `most` of them at a time, in order; and how many at a time went in
    the end. Where memory lacks, `give_up` is asked to let go of what is kept (False: nothing is), then it is
    half as many, which `on_fewer` hears. Of a single one that does not fit the libraries' error is raised."""
    made: list[Made] = []
    start = 0

    def begun(part: slice) -> Made:
        if memory_is_short(_ROOM_BYTES):
            raise OutOfMemoryError("Not even 64 MiB of memory are to be had.", hint="Close other programs.")
        return work(part)

    while start < total:
        part = slice(start, min(start + most, total))
        done = attempt(partial(begun, part))
        if done is None and give_up():
            continue
        if done is None and part.stop - start > 1:
            most = (part.stop - start) // 2
            on_fewer(most)
            continue
        made.append(begun(part) if done is None else done)
        start = part.stop
    return made, most


def release() -> None:
    """Give what torch holds back to the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _is_of_a_device(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in ("CUDA", "MPS"))


def is_out_of_memory(error: Exception) -> bool:
    """On CUDA torch has a class for it; its CPU and MPS allocators raise RuntimeError, as others do."""
    return isinstance(error, torch.OutOfMemoryError) or lacks_memory(error)
