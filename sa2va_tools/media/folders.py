"""A folder of frames as a video, in natural order (frame2 before frame10).

A folder has no frame rate: it plays at the rate that the caller gives, or at 24 frames per second, and a
warning says so. Hidden files and files that are not still images are skipped. Links are followed; whoever may
not read everything checks them first (`find_links`). The video ends before the first frame that cannot be
read.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.diagnosis.explain import explain_failure
from sa2va_tools.media.failures import SUPPORTED_FORMATS, translate_decoder_errors
from sa2va_tools.media.limits import check_bytes, check_duration, check_frames
from sa2va_tools.media.probe import Probe, break_warning
from sa2va_tools.media.stills import probe_still
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits

FOLDER_FPS = Fraction(24)
_RATE_WARNING = (
    f"A folder of frames has no frame rate; {FOLDER_FPS} frames per second are assumed. To set it: --fps on "
    "the command line, fps= in Python."
)
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_OTHER_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".gif"}
    | {".heic", ".heif", ".avif"}
)
"""Media that are not frames; hints suggest them."""
_MAX_SUGGESTED = 10
_MAX_SEARCHED = 2000
"""Entries that are searched for suggestions."""


def probe_folder(
    path: Path, limits: MediaLimits, run: Run, budget_px: int, fps: Fraction | None = None
) -> Probe:
    """Reads every header; decodes every frame if they have at most `budget_px` pixels together, else the
    first. Raises MediaUnreadableError when there is no frame, the first cannot be read, or sizes differ,
    MediaTooLargeError, OutOfMemoryError, CancelledError."""
    content = _probe_frames(path, _list_frames(path, limits), limits, run, budget_px)
    count = len(content.files)
    rate = fps or FOLDER_FPS
    check_duration(path.name, float(count / rate), limits)
    return Probe(
        "frames",
        content.size_wh,
        frame_count=count,
        fps=rate,
        timestamps_s=tuple(float(index / rate) for index in range(count)),
        last_frame_s=float(1 / rate),
        files=content.files,
        warnings=(*content.warnings(path.name), *(() if fps else (_RATE_WARNING,))),
        complete=not content.broken,
        transparent=content.transparent,
        given_fps=None if rate == FOLDER_FPS else rate,
    )


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of a folder up to the first that cannot be read."""

    files: tuple[Path, ...]
    size_wh: tuple[int, int]
    transparent: bool
    without_end: int
    """How many of them lack their last bytes."""
    broken: str
    """What is wrong with the first frame that cannot be read; empty when all can be."""

    def warnings(self, name: str) -> list[str]:
        """About what is missing."""
        found = [f"{break_warning(name, len(self.files))} {self.broken}"] if self.broken else []
        if self.without_end:
            lack = "lacks its" if self.without_end == 1 else "lack their"
            found.append(
                f"{self.without_end} of the frames in {name} {lack} last bytes; all pixels are there."
            )
        return found


def _probe_frames(
    path: Path, files: tuple[Path, ...], limits: MediaLimits, run: Run, budget_px: int
) -> _Frames:
    """Raises MediaUnreadableError when the first cannot be read or sizes differ."""
    first = _probe_frame(files[0], limits)
    decode = len(files) * first.size_wh[0] * first.size_wh[1] <= budget_px
    transparent = first.transparent
    without_end = int(first.without_end)
    for index, file in enumerate(files[1:], start=1):
        run.raise_if_cancelled()
        try:
            other = _probe_frame(file, limits, decode=decode)
        except MediaUnreadableError as error:
            return _Frames(files[:index], first.size_wh, transparent, without_end, error.message)
        if other.size_wh != first.size_wh:
            raise _size_error(path, files, (files[0], first), (file, other))
        transparent |= other.transparent
        without_end += other.without_end
    return _Frames(files, first.size_wh, transparent, without_end, "")


def _probe_frame(file: Path, limits: MediaLimits, *, decode: bool = True) -> Probe:
    """Raises MediaUnreadableError with what is wrong with the frame."""
    try:
        return probe_still(file, limits, decode=decode)
    except MediaUnreadableError as error:
        raise explain_failure(file, error) from error


def is_frame(file: Path) -> bool:
    """Whether a file in a folder is one of its frames, by its name. Raises OSError if it is unreachable."""
    return _is_named_like_frame(file) and file.is_file()


def find_links(folder: Path) -> list[Path]:
    """The entries of a folder that are symbolic links and named like frames, wherever they lead. Raises
    MediaError."""
    with translate_decoder_errors(folder, "listed"):
        return [file for file in folder.iterdir() if _is_named_like_frame(file) and file.is_symlink()]


def _is_named_like_frame(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix.lower() in _SUFFIXES


def _list_frames(path: Path, limits: MediaLimits) -> tuple[Path, ...]:
    """The frames in natural order. Raises MediaUnreadableError when there is none, MediaTooLargeError."""
    with translate_decoder_errors(path, "listed"):
        broken = next((file for file in find_links(path) if not file.exists()), None)
        names = [file for file in path.iterdir() if not file.name.startswith(".")]
        files = sorted((file for file in names if is_frame(file)), key=_natural_key)
        size = sum(file.stat().st_size for file in files)
    if broken is not None:  # left out, it would move the numbers of all later frames
        raise MediaUnreadableError(
            f"{path.name}/{broken.name} is a link that leads to no file.",
            hint="Restore the file that it is meant to lead to, or remove the link.",
        )
    if not files:
        content = f"{len(names)} other entries" if names else "it is empty"
        raise MediaUnreadableError(
            f"The folder {path.name or path} contains no frames ({content}).",
            hint=_suggestion(path, _find_media(path))
            or f"A folder must contain the frames of one video as image files. {SUPPORTED_FORMATS}",
        )
    check_frames(path.name, len(files), limits)
    check_bytes(path.name, size, limits)
    return tuple(files)


def _natural_key(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"([0-9]+)", file.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], file.name


def _find_media(folder: Path) -> list[str]:
    """What could be given instead of the folder: its media files, then those of its subfolders (a subfolder
    of frames as a whole). Links are not followed: they may lead out of the folder."""
    found = []
    deeper = []
    with translate_decoder_errors(folder, "listed"):
        for entry in _list_visible(folder):
            if entry.is_dir():
                inner = [file for file in _list_visible(entry) if file.is_file()]
                deeper += [f"{entry.name}/{file.name}" for file in inner if _is_other_media(file)]
                deeper += [f"{entry.name}/"] * any(file.suffix.lower() in _SUFFIXES for file in inner)
            elif _is_other_media(entry):
                found.append(entry.name)
    return found + deeper


def _list_visible(folder: Path) -> list[Path]:
    entries = itertools.islice(folder.iterdir(), _MAX_SEARCHED)
    visible = (entry for entry in entries if not entry.name.startswith(".") and not entry.is_symlink())
    return sorted(visible, key=_natural_key)


def _is_other_media(file: Path) -> bool:
    return file.suffix.lower() in _OTHER_SUFFIXES


def _suggestion(folder: Path, names: Sequence[str]) -> str:
    """A sentence with up to _MAX_SUGGESTED of the names; empty when there are none."""
    if not names:
        return ""
    left = len(names) - _MAX_SUGGESTED
    more = f" and {left} more" if left > 0 else ""
    return f"Pass one of: {', '.join(names[:_MAX_SUGGESTED])}{more} (inside {folder.name})."


def _size_error(
    folder: Path, files: Sequence[Path], one: tuple[Path, Probe], two: tuple[Path, Probe]
) -> MediaUnreadableError:
    sizes = " and ".join(
        f"{file.name} is {probe.size_wh[0]}×{probe.size_wh[1]}" for file, probe in (one, two)
    )
    return MediaUnreadableError(
        f"The frames in {folder.name} differ in size: {sizes}.",
        hint="Resize all frames to the same size, or put each video into its own folder. If they are "
        f"separate images: {_suggestion(folder, [file.name for file in files])}",
    )
