"""Recognise out-of-memory errors of any library and turn them into ours. Imports none of these libraries:
an error is recognised by its class name and its text."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sa2va_tools.errors import OutOfMemoryError, Sa2vaError

_PHRASES = (
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
_GENERIC_ERRORS = (RuntimeError, ImportError, OSError)
"""What most libraries raise; their text is searched for the phrases."""
_PACKAGES = ("cv2", "safetensors", "torch")
"""Libraries whose own error classes are searched as well."""
_ERROR_NUMBERS = (errno.ENOMEM, errno.EAGAIN)
"""EAGAIN is what starting a thread gives when memory is short."""
_WINDOWS_PAGING_FILE_TOO_SMALL = 1455
_MAX_QUOTE = 300


def is_memory_error(error: BaseException) -> bool:
    """Whether the error says that memory ran out."""
    if isinstance(error, (OutOfMemoryError, MemoryError)) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and (
        error.errno in _ERROR_NUMBERS or getattr(error, "winerror", None) == _WINDOWS_PAGING_FILE_TOO_SMALL
    ):
        return True
    package = type(error).__module__.partition(".")[0]
    if not isinstance(error, _GENERIC_ERRORS) and package not in _PACKAGES:
        return False
    text = str(error)
    return any(phrase in text for phrase in _PHRASES)


def as_out_of_memory_error(error: Exception) -> OutOfMemoryError | None:
    """The error as one of ours; None when it has nothing to do with memory."""
    if not is_memory_error(error):
        return None
    return OutOfMemoryError(
        f"Not enough memory{quote_error(error)}.",
        hint="Close other programs or raise the memory limit (ulimit -v, a container's limit), or reduce "
        "the work: fewer objects at once, a shorter range, smaller images, a smaller checkpoint.",
    )


@contextmanager
def translate_memory_errors() -> Iterator[None]:
    """Out-of-memory errors of libraries leave this block as OutOfMemoryError; all others pass unchanged."""
    try:
        yield
    except Sa2vaError:
        raise
    except Exception as error:
        ours = as_out_of_memory_error(error)
        if ours is None:
            raise
        raise ours from error


def quote_error(error: BaseException) -> str:
    """` (the library's own words)` on one line; empty when the error has no text."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split()).rstrip(".")
    return f" ({text[:_MAX_QUOTE]})" if text else ""
