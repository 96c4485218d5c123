"""What the libraries raise → our errors, in one place. Knows nothing of formats."""

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
from sa2va_tools.shortage import lacks_memory, memory_is_short, words_of

READABLE_KINDS = (
    "Readable are JPEG, PNG, WebP, BMP, TIFF and GIF images, MP4, MOV, WebM, MKV and most other "
    "video files, and folders of frames."
)

# Decoders meet hostile bytes with nearly every builtin error; all of them mean "corrupt" here.
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


class _Unwarned:
    """No Python warning is shown inside. Filters belong to the whole process and threads may overlap here, so
    the first to enter puts them aside and the last to leave puts them back."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._aside = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._aside = warnings.catch_warnings()
                self._aside.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._aside.__exit__(None, None, None)


_unwarned = _Unwarned()


@contextmanager
def decoder_errors(path: Path, doing: str = "read", size_wh: tuple[int, int] | None = None) -> Iterator[None]:
    """Run library code on `path`; whatever it raises leaves as a MediaError, or as an OutOfMemoryError, which
    tells what pictures of `size_wh` take. Its warnings stay unseen.

    Wrap calls into decoders only: programming errors of ours must not pass through here.
    """
    try:
        with _unwarned:
            yield
    except Sa2vaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaTooLargeError(
            f"{path.name} holds far more pixels than an image should.",
            hint="Scale it down first.",
        ) from error
    except (MemoryError, *_DECODER_ERRORS) as error:
        raise _mapped(path, doing, size_wh, error) from error


def check_memory(path: Path, size_wh: tuple[int, int] | None = None) -> None:
    """To be asked before a file is called broken: raises OutOfMemoryError where memory is short, for then it
    may be sound, and not every decoder says what it lacks."""
    if memory_is_short():
        raise _out_of_memory(path, "read", size_wh)


def _out_of_memory(
    path: Path, doing: str, size_wh: tuple[int, int] | None, words: str = ""
) -> OutOfMemoryError:
    wanted = ""
    if size_wh is not None:
        width, height = size_wh
        mib = width * height * 3 / 2**20
        wanted = f" A picture of {width}×{height} takes {mib:,.1f} MiB, and its decoder several times that."
    return OutOfMemoryError(
        f"{path.name} cannot be {doing}: memory is short{words}.{wanted}",
        hint="Close other programs, raise the limit on memory (ulimit -v, a container's), or scale it down.",
    )


def _mapped(
    path: Path, doing: str, size_wh: tuple[int, int] | None, error: BaseException
) -> MediaError | OutOfMemoryError:
    if lacks_memory(error):
        return _out_of_memory(path, doing, size_wh, words_of(error))
    if isinstance(error, FileNotFoundError):
        return MediaNotFoundError(f"There is no file or folder at {path}.")
    if isinstance(error, PermissionError):
        return MediaUnreadableError(
            f"{path.name} may not be read: permission denied.",
            hint="Change its permissions, or copy it to a folder that you may read.",
        )
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ENOSPC, errno.EMFILE):
        return MediaUnreadableError(f"{path.name} cannot be read from disk: {error.strerror}.")
    if memory_is_short():
        return _out_of_memory(path, doing, size_wh, words_of(error))
    return MediaUnreadableError(
        f"{path.name} cannot be {doing}: it is truncated, corrupt, or not what its name says "
        f"({_said(error)}).",
        hint="Check that the file opens in a viewer; export or download it again if not.",
    )


def _said(error: BaseException) -> str:
    """The library's own words, without the path and on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "its kind is not recognised"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(words).split())[:160]
