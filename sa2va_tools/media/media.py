"""Media: one image, video or folder of frames that has been probed and can be read.

`open_media` takes a path that the access policy allows. It reads headers and checks that the pixels decode;
it keeps no file open and no pixels in memory. Pixels that are in memory already are opened by
`memory.open_pixels`.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.errors import MediaNotFoundError, MediaUnreadableError, OutOfMemoryError, RequestError
from sa2va_tools.media.animations import ANIMATED_SUFFIXES, is_animated, probe_animation
from sa2va_tools.media.diagnosis.cut_off import find_cut
from sa2va_tools.media.diagnosis.explain import explain_encryption, explain_failure, make_empty_error
from sa2va_tools.media.failures import SUPPORTED_FORMATS, translate_decoder_errors
from sa2va_tools.media.folders import probe_folder
from sa2va_tools.media.frame_rate import parse_frame_rate
from sa2va_tools.media.limits import check_bytes
from sa2va_tools.media.motion_jpeg import find_motion_jpeg
from sa2va_tools.media.orientation import UPRIGHT, Orientation
from sa2va_tools.media.probe import Probe, transparency_warning
from sa2va_tools.media.sniff import read_suffix
from sa2va_tools.media.stills import IMAGE_SUFFIXES, probe_still
from sa2va_tools.media.streams import check_stream_number
from sa2va_tools.media.videos import probe_video
from sa2va_tools.printable import make_printable
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits
from sa2va_tools.wording import argument

_VERIFY_BUDGET_PX = 300_000_000
"""Pixels that are decoded on opening as a check: 325 frames of 1280×720, about a second on one core."""
_HASH_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Media:
    """One image or video. `sa2va_tools.media.decode` reads its pixels."""

    path: Path | None
    """The file or folder; None for media in memory."""
    kind: Literal["image", "video"]
    size_wh: tuple[int, int]
    """Pixels, after orientation."""
    frame_count: int
    fps: Fraction | None
    """Average frames per second; None for an image."""
    timestamps_s: tuple[float, ...]
    """When each frame is shown, in seconds from the first; (0.0,) for an image."""
    content_hash: str
    """SHA-256, hexadecimal, of the file's bytes; for a folder, of its frames' names and bytes; for media in
    memory, of kind, shape, fps and pixels."""
    container: str
    """`png`, `mp4`, `gif`, `frames`, `memory`, …"""
    rotation_deg: int
    """Clockwise turn that is applied to the stored pixels: 0, 90, 180 or 270."""
    warnings: tuple[str, ...] = ()
    complete: bool = True
    """False when frames of the file are lost or damaged."""
    damaged_frames: tuple[int, ...] = ()
    """Frames of a video that decode with errors; those beyond what is checked on opening are not known."""
    same_size_frames: int = field(default=0, repr=False)
    """The first frames of a video that are known to have one size; later ones may have to be scaled."""
    last_frame_s: float = field(default=0.0, repr=False)
    """How long the last frame is shown."""
    orientation: Orientation = field(default=UPRIGHT, repr=False)
    pts: tuple[int, ...] = field(default=(), repr=False)
    """Timestamps of a video's frames in the stream's ticks, to seek by; empty when there are none."""
    files: tuple[Path, ...] = field(default=(), repr=False)
    """Frames of a folder, in order."""
    video_stream: int | None = None
    """The stream that is read of a file with video streams, numbered from 0 as FFmpeg's `v:N`; None where
    there are none, or in old records, which mean the stream that players show."""
    given_fps: Fraction | None = None
    """The frame rate that the caller gave for frames in files that have none."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel by its height, after orientation. Coordinates count pixels, whatever their shape."""
    start_s: float = 0.0
    """When a player shows the first frame, by the player's clock, which may begin earlier with the sound."""
    pixels: tuple[NDArray[np.uint8], ...] | None = field(default=None, repr=False, compare=False)
    """The frames of media in memory: upright RGB, (H, W, 3), read-only; None for files."""

    @property
    def duration_s(self) -> float | None:
        """Seconds until the last frame ends; None for an image."""
        return None if self.kind == "image" else self.timestamps_s[-1] + self.last_frame_s

    @property
    def name(self) -> str:
        """The name of the file or folder, to be shown; for media in memory such as "image 640x480"."""
        return pixels_name(self.kind, self.size_wh) if self.path is None else make_printable(self.path.name)


def pixels_name(kind: str, size_wh: tuple[int, int]) -> str:
    """The name of media in memory, such as "image 640x480"."""
    return f"{kind} {size_wh[0]}x{size_wh[1]}"


def open_media(
    path: Path,
    limits: MediaLimits | None = None,
    run: Run | None = None,
    *,
    video_stream: int | None = None,
    fps: float | Fraction | None = None,
) -> Media:
    """Probe and validate a file or a folder of frames. `video_stream` chooses a video stream of the file
    (None: the one that players show). `fps` is the frame rate of a folder or a video that has none.

    Raises RequestError or TypeError for `video_stream` or `fps` that is wrong or does not apply,
    MediaNotFoundError, MediaUnreadableError (empty, cut off, corrupt, encrypted, audio only, no media at all,
    changed while it is read, not a regular file, an unsupported format, frames of mixed sizes),
    MediaTooLargeError before the memory is spent, MissingExtraError for HEIC and AVIF without the extra
    [heif], OutOfMemoryError, CancelledError.
    """
    limits = limits or MediaLimits()
    run = run or Run()
    path = Path(path).absolute()
    run.raise_if_cancelled()
    given = _Given(check_stream_number(video_stream), None if fps is None else parse_frame_rate(fps))
    kind, probe, content_hash = _probe_and_hash(path, limits, run, given)
    return _make_media(path, kind, probe, content_hash)


def _make_media(path: Path, kind: Literal["image", "video"], probe: Probe, content_hash: str) -> Media:
    transparency = [transparency_warning(path.name)] if probe.transparent else []
    return Media(
        path=path,
        kind=kind,
        size_wh=probe.size_wh,
        frame_count=probe.frame_count,
        fps=probe.fps,
        timestamps_s=probe.timestamps_s,
        content_hash=content_hash,
        container=probe.container,
        rotation_deg=probe.orientation.rotation_deg,
        warnings=tuple(map(make_printable, (*probe.warnings, *transparency))),
        complete=probe.complete,
        damaged_frames=probe.damaged_frames,
        same_size_frames=probe.same_size_frames,
        last_frame_s=probe.last_frame_s,
        orientation=probe.orientation,
        pts=probe.pts,
        files=probe.files,
        video_stream=probe.video_stream,
        given_fps=probe.given_fps,
        pixel_aspect=probe.pixel_aspect,
        start_s=probe.start_s,
    )


def _probe_and_hash(
    path: Path, limits: MediaLimits, run: Run, given: _Given
) -> tuple[Literal["image", "video"], Probe, str]:
    """What the file is and its content hash, both of the same bytes. Its errors say what is wrong."""
    before = _read_state(path)
    try:
        kind, probe = _probe(path, limits, run, given)
    except MediaUnreadableError as error:
        _check_unchanged(path, before)
        raise explain_failure(path, error) from error
    except OutOfMemoryError as error:
        if before is None or not find_cut(path):
            raise
        # A broken size that no memory could hold.
        raise explain_failure(path, MediaUnreadableError(error.message, hint=error.hint)) from error
    content_hash = hash_files(path, probe.files, run)
    _check_unchanged(path, before)
    return kind, probe, content_hash


@dataclass(frozen=True, slots=True)
class _Given:
    """What the caller says about a file, checked; None where the file itself tells."""

    video_stream: int | None
    fps: Fraction | None

    def require_nothing(self, path: Path, what: str) -> None:
        """RequestError if something was given for a file to which it does not apply."""
        if self.video_stream is not None:
            raise RequestError(
                f"{path.name} is {what} and has no video streams to choose from.",
                hint=f"Leave out {argument('video_stream')}.",
            )
        if self.fps is not None:
            raise RequestError(
                f"{path.name} is {what}; a frame rate can be given only for a folder of frames or a video "
                "that has none.",
                hint=f"Leave out {argument('fps')}.",
            )


def _probe(
    path: Path, limits: MediaLimits, run: Run, given: _Given
) -> tuple[Literal["image", "video"], Probe]:
    if _is_folder(path, limits):
        replace(given, fps=None).require_nothing(path, "a folder of frames")
        return "video", probe_folder(path, limits, run, _VERIFY_BUDGET_PX, given.fps)
    with translate_decoder_errors(path):
        suffix = read_suffix(path)
        is_video = find_motion_jpeg(path) is not None
    if suffix in ANIMATED_SUFFIXES and is_animated(path, limits):
        given.require_nothing(path, "an animation with its own times")
        return "video", probe_animation(path, limits, run)
    if suffix in IMAGE_SUFFIXES and not is_video:
        given.require_nothing(path, "an image")
        return "image", probe_still(path, limits)
    encrypted = explain_encryption(path)  # its pictures may decode, as noise
    if encrypted:
        raise encrypted
    return "video", probe_video(
        path, limits, run, _VERIFY_BUDGET_PX, video_stream=given.video_stream, fps=given.fps
    )


def _is_folder(path: Path, limits: MediaLimits) -> bool:
    """False for a regular file that is not empty or too large. Raises MediaError for anything else."""
    with translate_decoder_errors(path):
        if not path.exists():
            raise MediaNotFoundError(f"There is no file or folder at {path}.", hint="Check the spelling.")
        status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return True
    if not stat.S_ISREG(status.st_mode):
        raise MediaUnreadableError(
            f"{path.name} is not a regular file (a pipe, socket or device).", hint=SUPPORTED_FORMATS
        )
    if status.st_size == 0:
        raise make_empty_error(path)
    check_bytes(path.name, status.st_size, limits)
    return False


def _read_state(path: Path) -> tuple[int, int] | None:
    """A file's size and when it was changed; None for anything else."""
    with translate_decoder_errors(path):
        status = path.stat() if path.is_file() else None
    return (status.st_size, status.st_mtime_ns) if status else None


def _check_unchanged(path: Path, before: tuple[int, int] | None) -> None:
    """Raises MediaUnreadableError when a file is not as it was `before`."""
    after = _read_state(path)
    if before is None or after == before:
        return
    grew = f" (it grew from {before[0]:,} to {after[0]:,} bytes)" if after and after[0] > before[0] else ""
    raise MediaUnreadableError(
        f"{path.name} changed while it was read{grew}.",
        hint="Wait until it is completely written, or give a copy of it.",
    )


def hash_files(path: Path, files: tuple[Path, ...], run: Run | None = None) -> str:
    """SHA-256 of the bytes of the file at `path`; for a folder, of the names and bytes of its frames,
    `files`. Raises OSError, MediaError, CancelledError."""
    run = run or Run()
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name) or [path]:
        if files:
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with translate_decoder_errors(file), file.open("rb") as stream:
            while chunk := stream.read(_HASH_CHUNK):
                run.raise_if_cancelled()
                digest.update(chunk)
    return digest.hexdigest()
