"""Errors of image and video libraries → this package's errors, in one place. Knows nothing of formats."""

from __future__ import annotations

import errno
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
from PIL import Image, UnidentifiedImageError

from sa2va_tools.errors import (
    MediaError,
    MediaNotFoundError,
    MediaTooLargeError,
    MediaUnreadableError,
    OutOfMemoryError,
    Sa2vaError,
)
from sa2va_tools.memory_errors import is_memory_error, quote_error

SUPPORTED_FORMATS = (
    "Supported are JPEG, PNG, WebP, BMP, TIFF and GIF images (HEIC and AVIF with the extra [heif]), MP4, "
    "MOV, WebM, MKV and most other video files, and folders of frames."
)

# Decoders raise nearly every builtin error for hostile bytes; all of them mean "corrupt" here.
_DECODER_ERRORS = (
    av.FFmpegError,
    cv2.error,
    zlib.error,
    struct.error,
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    AssertionError,
)


class _WarningFilter:
    """Hides Python warnings. The filters belong to the whole process and threads may overlap here, so the
    first to enter saves them and the last to leave restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._saved.__exit__(None, None, None)


_warning_filter = _WarningFilter()


@contextmanager
def translate_decoder_errors(
    path: Path, action: str = "read", size_wh: tuple[int, int] | None = None
) -> Iterator[None]:
    """Run library code on `path`: what it raises leaves as a MediaError, or as an OutOfMemoryError that says
    how much a frame of `size_wh` takes. Its warnings are hidden. `action` is a participle for messages.

    Wrap only calls into libraries: programming errors of ours must not pass through here.
    """
    try:
        with _warning_filter:
            yield
    except Sa2vaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaTooLargeError(
            f"{path.name} is too large to open safely.", hint="Scale it down first."
        ) from error
    except (MemoryError, *_DECODER_ERRORS) as error:
        raise _translate(path, action, size_wh, error) from error


def _translate(
    path: Path, action: str, size_wh: tuple[int, int] | None, error: BaseException
) -> MediaError | OutOfMemoryError:
    if is_memory_error(error):
        return _out_of_memory(path, action, size_wh, error)
    if isinstance(error, FileNotFoundError):
        return MediaNotFoundError(
            f"There is no file or folder at {path}.", hint="Check whether it was moved or deleted."
        )
    if isinstance(error, PermissionError):
        return MediaUnreadableError(
            f"{path.name} cannot be {action}: permission denied.",
            hint="Change its permissions, or copy it to a folder that you may read.",
        )
    is_ffmpeg = isinstance(error, av.FFmpegError) and error.errno == errno.EIO  # its word for broken files
    if (
        isinstance(error, OSError)
        and error.errno in (errno.EIO, errno.ENOSPC, errno.EMFILE)
        and not is_ffmpeg
    ):
        return MediaUnreadableError(f"{path.name} cannot be read from disk: {error.strerror}.")
    is_unknown = isinstance(error, UnidentifiedImageError)  # its text is a path and an object's address
    quote = "" if is_ffmpeg else quote_error(error)
    return MediaUnreadableError(
        f"{path.name} cannot be {action}: it is truncated, corrupt, or not what its name says"
        f"{' (unknown format)' if is_unknown else quote}.",
        hint="Check that the file opens in a viewer; export or download it again if not.",
    )


def _out_of_memory(
    path: Path, action: str, size_wh: tuple[int, int] | None, error: BaseException
) -> OutOfMemoryError:
    need = ""
    if size_wh is not None:
        width, height = size_wh
        mib = width * height * 3 / 2**20
        need = f" A frame of {width}×{height} takes {mib:,.1f} MiB, and its decoder several times that."
    return OutOfMemoryError(
        f"{path.name} cannot be {action}: not enough memory{quote_error(error)}.{need}",
        hint="Close other programs, raise the memory limit (ulimit -v, a container's), or scale it down.",
    )
