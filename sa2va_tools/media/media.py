"""Media: one image, video or folder of frames, probed and found readable.

`open_media` takes a path that the access policy has already let through. It reads headers and
proves that the pixels decode; it keeps no file open and no pixels in memory.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from sa2va_tools.errors import MediaNotFoundError, MediaUnreadableError
from sa2va_tools.media.animations import is_animated, probe_animation
from sa2va_tools.media.failures import READABLE_KINDS, decoder_errors
from sa2va_tools.media.folders import probe_folder
from sa2va_tools.media.limits import check_bytes
from sa2va_tools.media.orientation import UPRIGHT, Orientation
from sa2va_tools.media.probe import Probe
from sa2va_tools.media.stills import probe_still
from sa2va_tools.media.videos import probe_video
from sa2va_tools.progress import CancelToken, check_of, unhindered
from sa2va_tools.settings import MediaLimits

_VERIFY_BUDGET_PX = 300_000_000
"""Pixels that are decoded on opening to prove that they decode: some 325 frames of 1280×720,
about a second on one core."""
_HASH_CHUNK = 1 << 20
_IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
_FOREIGN_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")


@dataclass(frozen=True, slots=True)
class Media:
    """One image or video. Pixels are read with `sa2va_tools.media.decode`."""

    path: Path
    kind: Literal["image", "video"]
    size_wh: tuple[int, int]
    """Pixels, after orientation."""
    frame_count: int
    fps: Fraction | None
    """Average frames per second; None for an image."""
    timestamps_s: tuple[float, ...]
    """When each frame is shown, in seconds from the first; (0.0,) for an image."""
    content_hash: str
    """SHA-256, hexadecimal, of the file's bytes; of a folder, of its frames' names and bytes."""
    container: str
    """`png`, `mp4`, `gif`, `frames`, …"""
    rotation_deg: int
    """Clockwise turn that is applied to the stored pixels: 0, 90, 180 or 270."""
    warnings: tuple[str, ...] = ()
    complete: bool = True
    """False where frames of the file are lost or damaged."""
    last_frame_s: float = field(default=0.0, repr=False)
    orientation: Orientation = field(default=UPRIGHT, repr=False)
    pts: tuple[int, ...] = field(default=(), repr=False)
    """Stamps of a video's frames to seek by; empty where there are none."""
    files: tuple[Path, ...] = field(default=(), repr=False)
    """Frames of a folder, in order."""

    @property
    def duration_s(self) -> float | None:
        """Seconds until the last frame ends; None for an image."""
        return None if self.kind == "image" else self.timestamps_s[-1] + self.last_frame_s

    @property
    def name(self) -> str:
        return self.path.name


def open_media(path: Path, limits: MediaLimits | None = None, cancel: CancelToken | None = None) -> Media:
    """Probe and validate what is at `path` (a file, or a folder of frames).

    Raises MediaNotFoundError, MediaUnreadableError (empty, truncated, corrupt, audio only, not a
    regular file, a kind that is not read, frames of mixed sizes), MediaTooLargeError before the
    memory is spent, OutOfMemoryError, CancelledError.
    """
    limits = limits or MediaLimits()
    path = Path(path).absolute()
    check_cancel = check_of(cancel)
    check_cancel()
    kind, probe = _probe(path, limits, check_cancel)
    return Media(
        path=path,
        kind=kind,
        size_wh=probe.size_wh,
        frame_count=probe.frame_count,
        fps=probe.fps,
        timestamps_s=probe.timestamps_s,
        content_hash=hash_of(path, probe.files, check_cancel),
        container=probe.container,
        rotation_deg=probe.orientation.rotation_deg,
        warnings=probe.warnings,
        complete=probe.complete,
        last_frame_s=probe.last_frame_s,
        orientation=probe.orientation,
        pts=probe.pts,
        files=probe.files,
    )


def _probe(
    path: Path, limits: MediaLimits, check_cancel: Callable[[], None]
) -> tuple[Literal["image", "video"], Probe]:
    if _is_folder(path, limits):
        return "video", probe_folder(path, limits, check_cancel, _VERIFY_BUDGET_PX)
    if _is_image(path):
        if is_animated(path, limits):
            return "video", probe_animation(path, limits, check_cancel)
        return "image", probe_still(path, limits)
    return "video", probe_video(path, limits, check_cancel, _VERIFY_BUDGET_PX)


def _is_folder(path: Path, limits: MediaLimits) -> bool:
    """False for a regular file that may be read; anything else that is no folder is an error."""
    with decoder_errors(path):
        if not path.exists():
            raise MediaNotFoundError(f"There is no file or folder at {path}.", hint="Check the spelling.")
        status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return True
    if not stat.S_ISREG(status.st_mode):
        raise MediaUnreadableError(
            f"{path.name} is not a regular file (a pipe, socket or device).", hint=READABLE_KINDS
        )
    if status.st_size == 0:
        raise MediaUnreadableError(
            f"{path.name} is empty (0 bytes).", hint="It may have been cut off; export or download it again."
        )
    check_bytes(path.name, status.st_size, limits)
    return False


def _is_image(path: Path) -> bool:
    """By its first bytes, never by its name."""
    with decoder_errors(path), path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"ftyp" and head[8:12] in _FOREIGN_BRANDS:
        raise MediaUnreadableError(
            f"{path.name} is an HEIC or AVIF image, which is not read.",
            hint=f"Convert it to JPEG or PNG. {READABLE_KINDS}",
        )
    return head.startswith(_IMAGE_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def hash_of(path: Path, files: tuple[Path, ...], check_cancel: Callable[[], None] = unhindered) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of a folder's frames. Raises OSError,
    MediaUnreadableError."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name) or [path]:
        if files:
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with decoder_errors(file), file.open("rb") as stream:
            while chunk := stream.read(_HASH_CHUNK):
                check_cancel()
                digest.update(chunk)
    return digest.hexdigest()
