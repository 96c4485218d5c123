"""Running out of memory: how libraries say it, and how it is told. Imports none of them: an error is known by
what it says, and torch's own class by `model/`."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

from sa2va_tools.errors import OutOfMemoryError, Sa2vaError

_SIGNS = (
    "out of memory",
    "annot allocate memory",  # the C library, also through safetensors
    "failed to map segment",  # the loader of shared libraries
    "Insufficient memory",  # OpenCV
    "std::bad_alloc",
    "could not create a primitive",  # oneDNN
    "DefaultCPUAllocator",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_SAYING = (RuntimeError, ImportError, OSError)
_SAYING_PACKAGES = ("cv2", "safetensors")
"""Whose errors are of no more special kind than Exception."""
_NUMBERS = (errno.ENOMEM, errno.EAGAIN)
"""EAGAIN: of threads, which want memory, too. Nothing here waits for files that may not be ready."""
_PAGING_FILE_TOO_SMALL = 1455
_ROOM_BYTES = 256 * 2**20
_MOST_WORDS = 300


def may_lack_memory(error: BaseException) -> bool:
    """Whether the error says so, or memory is so short that it may be behind any error: FFmpeg's H.264 and
    libwebp then call broken what is sound."""
    return lacks_memory(error) or memory_is_short()


def lacks_memory(error: BaseException) -> bool:
    """Whether that is what the error says."""
    if isinstance(error, (OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError) and (
        error.errno in _NUMBERS or getattr(error, "winerror", None) == _PAGING_FILE_TOO_SMALL
    ):
        return True
    if not isinstance(error, _SAYING) and type(error).__module__.partition(".")[0] not in _SAYING_PACKAGES:
        return False
    said = str(error)
    return any(sign in said for sign in _SIGNS)


def memory_is_short(room: int = _ROOM_BYTES) -> bool:
    """Whether that many bytes are not to be had. They are asked for, not used."""
    try:
        mmap.mmap(-1, room).close()
    except (OSError, MemoryError):
        return True
    return False


def told(error: Exception) -> OutOfMemoryError | None:
    """An error that nobody expected, in our words; None where memory has nothing to do with it."""
    if not may_lack_memory(error):
        return None
    return OutOfMemoryError(
        f"Memory is short{words_of(error)}.",
        hint="Close other programs or raise the limit on memory (ulimit -v, a container's), or ask for less: "
        "fewer things at once, a shorter range, smaller pictures, a smaller checkpoint.",
    )


@contextmanager
def telling() -> Iterator[None]:
    """In this block what no one else expected is told as a lack of memory where it is one."""
    try:
        yield
    except Sa2vaError:
        raise
    except Exception as error:
        short = told(error)
        if short is None:
            raise
        raise short from error


def words_of(error: BaseException) -> str:
    """` (the library's own words)`, on one line; nothing where it has none."""
    said = " ".join((getattr(error, "strerror", None) or str(error)).split()).rstrip(".")
    return f" ({said[:_MOST_WORDS]})" if said else ""
