"""A folder of frames as a video, in natural order (frame2 before frame10).

A folder has no clock: it plays at 24 frames per second, and a warning says so. Hidden files and
files that are no still images are passed over. Links that lead out of the folder are refused,
because only the folder itself was checked against the allowed roots. Where a frame cannot be read, the
video ends before it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.failures import READABLE_KINDS, decoder_errors
from sa2va_tools.media.limits import check_bytes, check_duration, check_frames
from sa2va_tools.media.probe import Probe, break_warning
from sa2va_tools.media.stills import probe_still
from sa2va_tools.settings import MediaLimits

FOLDER_FPS = Fraction(24)
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_OTHER_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".gif"}
)
"""Names of media that are not frames; only suggestions are made from them."""
_MAX_SUGGESTED = 10
_MAX_SEARCHED = 2000
"""Entries that are looked at for suggestions."""


def probe_folder(path: Path, limits: MediaLimits, on_frame: Callable[[], None], budget_px: int) -> Probe:
    """Reads every header; decodes every frame while `budget_px` pixels last, else the first.
    `on_frame` may raise to stop. Raises MediaUnreadableError when the very first frame is not to be read."""
    files = frame_files(path, limits)
    first = probe_still(files[0], limits)
    decode = len(files) * first.size_wh[0] * first.size_wh[1] <= budget_px
    broken: list[str] = []
    for index, file in enumerate(files[1:], start=1):
        on_frame()
        try:
            other = probe_still(file, limits, decode=decode)
        except MediaUnreadableError as error:
            broken.append(f"{break_warning(path.name, index)} {error.message}")
            files = files[:index]
            break
        if other.size_wh != first.size_wh:
            raise _mixed_sizes(path, files, (files[0], first), (file, other))
    count = len(files)
    check_duration(path.name, float(count / FOLDER_FPS), limits)
    return Probe(
        "frames",
        first.size_wh,
        frame_count=count,
        fps=FOLDER_FPS,
        timestamps_s=tuple(float(index / FOLDER_FPS) for index in range(count)),
        last_frame_s=float(1 / FOLDER_FPS),
        files=files,
        warnings=(
            *broken,
            f"A folder of frames has no frame rate; {FOLDER_FPS} frames per second are assumed.",
        ),
        complete=not broken,
    )


def is_frame(file: Path) -> bool:
    """Whether a file in a folder of frames is one of them, by its name. OSError where it is out of reach."""
    return not file.name.startswith(".") and file.suffix.lower() in _SUFFIXES and file.is_file()


def frame_files(path: Path, limits: MediaLimits) -> tuple[Path, ...]:
    """The frames in natural order. Raises MediaUnreadableError when there is none."""
    with decoder_errors(path, "listed"):
        names = [file for file in path.iterdir() if not file.name.startswith(".")]
        files = sorted((file for file in names if is_frame(file)), key=_natural_key)
        size = sum(file.stat().st_size for file in files)
    if not files:
        held = f"{len(names)} other entries" if names else "nothing"
        raise MediaUnreadableError(
            f"The folder {path.name} holds no frames ({held}).",
            hint=_suggestion(path, _media_within(path))
            or f"A folder must hold the frames of one video as image files. {READABLE_KINDS}",
        )
    check_frames(path.name, len(files), limits)
    check_bytes(path.name, size, limits)
    root = path.resolve()
    for file in files:
        if not file.resolve().is_relative_to(root):
            raise MediaUnreadableError(
                f"{path.name}/{file.name} is a link that leads out of the folder.",
                hint="Copy the frames into the folder, or point at the folder that holds them.",
            )
    return tuple(files)


def _natural_key(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"([0-9]+)", file.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], file.name


def _media_within(folder: Path) -> list[str]:
    """Names that could be given instead of the folder: its media files, then those of its subfolders
    (a subfolder of frames as a whole). Links are not followed: they may lead elsewhere."""
    found, deeper = [], []
    with decoder_errors(folder, "listed"):
        for entry in _visible(folder):
            if entry.is_dir():
                inner = [file for file in _visible(entry) if file.is_file()]
                deeper += [f"{entry.name}/{file.name}" for file in inner if _is_other_media(file)]
                deeper += [f"{entry.name}/"] * any(file.suffix.lower() in _SUFFIXES for file in inner)
            elif _is_other_media(entry):
                found.append(entry.name)
    return found + deeper


def _visible(folder: Path) -> list[Path]:
    entries = itertools.islice(folder.iterdir(), _MAX_SEARCHED)
    shown = [entry for entry in entries if not entry.name.startswith(".") and not entry.is_symlink()]
    return sorted(shown, key=_natural_key)


def _is_other_media(file: Path) -> bool:
    return file.suffix.lower() in _OTHER_SUFFIXES


def _suggestion(folder: Path, names: Sequence[str]) -> str:
    """Words that name up to _MAX_SUGGESTED of the names; empty where there are none."""
    if not names:
        return ""
    left = len(names) - _MAX_SUGGESTED
    more = f" and {left} more" if left > 0 else ""
    return f"Pass one of: {', '.join(names[:_MAX_SUGGESTED])}{more} (inside {folder.name})."


def _mixed_sizes(
    folder: Path, files: Sequence[Path], one: tuple[Path, Probe], two: tuple[Path, Probe]
) -> MediaUnreadableError:
    said = " and ".join(f"{file.name} is {p.size_wh[0]}×{p.size_wh[1]}" for file, p in (one, two))
    return MediaUnreadableError(
        f"The frames in {folder.name} differ in size: {said}.",
        hint="Bring all frames to one size, or put each video into its own folder. If they are separate "
        f"images: {_suggestion(folder, [file.name for file in files])}",
    )
