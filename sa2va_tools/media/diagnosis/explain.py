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
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".aria2", ".!ut", ".!qb")
_AGAIN = "Download or copy it again; if it is still being written, wait until it is complete."


def explain_failure(path: Path, error: MediaUnreadableError) -> MediaUnreadableError:
    """The error for a file that `error` says cannot be read: encrypted, no media, or cut off, if its bytes show
    it; else `error` itself. Raises MediaError when the bytes cannot be read either."""
    if not path.is_file() or path.stat().st_size == 0:
        return error
    scheme = find_encryption(path)
    if scheme:
        return MediaUnreadableError(
            f"{path.name} is encrypted {scheme}; its pictures can only be read with its key.",
            hint="Give a copy without copy protection, or decrypt it first.",
        )
    length = path.stat().st_size
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
            f"{path.name} is the file of a download that is not complete, by its name, and cannot be read yet.",
            hint="Wait until the download is complete, or start it again.",
        )
    if path.suffix.lower() in (".ts", ".m4s") and "corrupt, or" in error.message:
        return MediaUnreadableError(
            f"{path.name} is not the kind of file that its name says; segments of protected streams look like this "
            "because they are encrypted.",
            hint="Give a copy without copy protection, or save the whole stream as one file.",
        )
    return error


def _repair_hint(cut: str) -> str:
    if "moov" not in cut:
        return ""
    return " A recording that broke off can be repaired with the tool untrunc and a whole file of the same camera."
