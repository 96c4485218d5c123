"""Why a file cannot be read, in words: the one place that turns a decoder's failure into what is wrong."""

from __future__ import annotations

from pathlib import Path

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.diagnosis.cut_off import find_cut
from sa2va_tools.media.diagnosis.encryption import find_encryption
from sa2va_tools.media.diagnosis.foreign import identify_foreign_file

_MIN_BYTES = 64
"""No image or video that can be read is shorter."""
_MAGIC_BYTES = 8
"""So many bytes tell what a file is."""
_UNFINISHED = (
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".opdownload",
    ".filepart",
    ".aria2",
    ".!ut",
    ".!qb",
)
_AGAIN = "Download or copy it again; if it is still being written, wait until it is complete."


def explain_failure(path: Path, error: MediaUnreadableError) -> MediaUnreadableError:
    """The error for a file that `error` says cannot be read: encrypted, no media, or cut off, if its bytes
    show it; else `error` itself. Raises MediaError when the bytes cannot be read either."""
    if not path.is_file():
        return error
    length = path.stat().st_size
    if not length:
        return make_empty_error(path)
    encrypted = explain_encryption(path)
    if encrypted:
        return encrypted
    cut = find_cut(path)
    foreign = identify_foreign_file(path) if not cut and length >= _MAGIC_BYTES else None
    if foreign:
        return MediaUnreadableError(f"{path.name} is no image or video: it is {foreign[0]}.", hint=foreign[1])
    if not cut and length < _MIN_BYTES:
        cut = f"it has only {length} byte{'s' if length > 1 else ''}"
    if cut:
        return MediaUnreadableError(f"{path.name} is cut off: {cut}.", hint=_AGAIN + _repair_hint(cut))
    if path.suffix.lower() in _UNFINISHED:
        return MediaUnreadableError(
            f"{path.name} cannot be read; by its name it is the file of a download that is not complete.",
            hint="Wait until the download is complete, or start it again.",
        )
    if path.suffix.lower() in (".ts", ".m4s") and "corrupt, or" in error.message:
        return MediaUnreadableError(
            f"{path.name} is not what its name says; encrypted segments of protected streams look like this.",
            hint="Give a copy without copy protection, or save the whole stream as one file.",
        )
    return error


def make_empty_error(path: Path) -> MediaUnreadableError:
    """For a file of no bytes."""
    return MediaUnreadableError(
        f"{path.name} is empty (0 bytes).", hint="It may be cut off; export or download it again."
    )


def explain_encryption(path: Path) -> MediaUnreadableError | None:
    """The error for a file whose pictures are encrypted; None for any other. Raises MediaError."""
    scheme = find_encryption(path)
    if not scheme:
        return None
    return MediaUnreadableError(
        f"{path.name} is encrypted {scheme}; its pictures can only be read with its key.",
        hint="Give a copy without copy protection, or decrypt it first.",
    )


def _repair_hint(cut: str) -> str:
    if "moov" not in cut:
        return ""
    return (
        " A recording that broke off can be repaired with the tool untrunc, given a whole file of the same "
        "camera."
    )
