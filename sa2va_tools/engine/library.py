"""Any media or mask that a caller names or passes → opened, under one access policy and one store."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

from sa2va_tools import atomic
from sa2va_tools.engine.mask_object import MediaRef
from sa2va_tools.errors import (
    AccessDeniedError,
    MediaError,
    MediaNotFoundError,
    MediaUnreadableError,
    RequestError,
    StoreError,
)
from sa2va_tools.media.folders import find_links
from sa2va_tools.media.frame_rate import parse_frame_rate
from sa2va_tools.media.limits import check_bytes, check_duration, check_frames, check_pixels
from sa2va_tools.media.media import Media, open_media
from sa2va_tools.media.memory import open_pixels
from sa2va_tools.media.sniff import file_suffix, source_kind
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.media.streams import check_stream_number
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits
from sa2va_tools.store.handles import KINDS, looks_like_handle, parse_id, parse_kind
from sa2va_tools.store.inventory import UPLOADS
from sa2va_tools.store.records import MaskRecord
from sa2va_tools.store.stamp import compute_stamp, is_unchanged
from sa2va_tools.store.store import Store
from sa2va_tools.wording import argument

_MAX_PROBED = 64
"""Paths whose media need not be probed again; their timestamps take a few bytes a frame."""
_MAX_MEMORY_BYTES = 2**30
"""Pixels of media in memory that are held for their handles, besides the last one."""


@dataclass(frozen=True, slots=True)
class OpenedMedia:
    """A probed image or video, and what results say about it."""

    media: Media
    ref: MediaRef
    stamp: str | None = None
    """The stamp of its file when it was opened."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read, as the caller says; None where the file itself tells."""

    fps: Fraction | None = None
    video_stream: int | None = None


class Library:
    """Everything that a caller can mean. The policy applies to handles as well: the store may have been
    filled by someone with wider access."""

    def __init__(self, store: Store, access: AccessPolicy, limits: MediaLimits) -> None:
        self.store = Store(store.root, may_name=self.allows)
        self.access = access
        self.limits = limits
        self._probed: OrderedDict[tuple[Path, Reading], tuple[Media, str]] = OrderedDict()
        self._in_memory: OrderedDict[str, Media] = OrderedDict()
        self._lock = threading.Lock()
        """For changes of the two: any thread may open media."""

    def open(
        self, source: Any, run: Run, *, fps: float | Fraction | None = None, video_stream: int | None = None
    ) -> OpenedMedia:
        """Open a path, `file://` URL, handle, NumPy array, PIL image, list or iterator of frames, or the
        bytes of a file. `fps` is for frames in memory, and for folders and videos without a frame rate;
        `video_stream` is for files with several. TypeError for anything else."""
        kind = source_kind(source)
        if kind == "pixels":
            if video_stream is not None:
                raise RequestError(
                    "Frames in memory have no video streams.", hint=f"Leave out {argument('video_stream')}."
                )
            return self._open_pixels(source, run, fps)
        reading = Reading(None if fps is None else parse_frame_rate(fps), check_stream_number(video_stream))
        if kind == "bytes":
            return self._open_path(self._spool(bytes(source)), reading, run)
        text = os.fsdecode(source)  # the `str` of a path object need not be the path
        handle_kind = parse_kind(text.strip())
        if handle_kind is not None:
            return self._open_handle(text.strip(), handle_kind, reading, run)
        if looks_like_handle(text):
            kinds = (kind for kind in KINDS if text.strip().startswith(f"{kind}:"))
            parse_id(text.strip(), next(kinds))  # raises: a mistyped handle is not a file name
        return self._open_path(self.access.resolve(text), reading, run)

    def _open_path(self, path: Path, reading: Reading, run: Run) -> OpenedMedia:
        media, stamp = self._probe(path, reading, run)
        return OpenedMedia(media, describe_media(media, self.store.put_media(media)), stamp)

    def _open_pixels(self, source: Any, run: Run, fps: float | Fraction | None) -> OpenedMedia:
        media = open_pixels(source, fps=fps, limits=self.limits, run=run)
        handle = self.store.put_media(media)
        with self._lock:
            self._in_memory[handle] = media
            self._in_memory.move_to_end(handle)
            while len(self._in_memory) > 1 and self._memory_bytes > _MAX_MEMORY_BYTES:
                self._in_memory.popitem(last=False)
        return OpenedMedia(media, describe_media(media, handle))

    @property
    def _memory_bytes(self) -> int:
        held = self._in_memory.values()
        return sum(3 * media.size_wh[0] * media.size_wh[1] * media.frame_count for media in held)

    def _spool(self, data: bytes) -> Path:
        """Write the bytes of a file into the store, under a name derived from them."""
        check_bytes("The data", len(data), self.limits)
        path = self._uploads / f"{sha256(data).hexdigest()}{file_suffix(data)}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            atomic.write_bytes(path, data)
        return path

    @property
    def _uploads(self) -> Path:
        return self.store.root / UPLOADS

    def _open_handle(self, handle: str, kind: str, reading: Reading, run: Run) -> OpenedMedia:
        """A handle stands for one way of reading; with another, it stands for its file."""
        handle = self.find_media_handle(handle, kind, run)
        media = self._in_memory.get(handle)
        if media is not None:
            if reading != Reading():
                raise RequestError(
                    f"{handle} stands for frames in memory, whose frame rate is fixed.",
                    hint=f"Give the frames again, with {argument('fps')}.",
                )
            return OpenedMedia(media, describe_media(media, handle))
        self.require_access(handle)
        media = self.store.get_media(handle, self.may_read, run)
        if media.path is not None:
            self._require_links(media.path)
        if media.path is not None and reading != Reading():
            return self._open_path(media.path, reading, run)
        self._check_limits(media)
        return OpenedMedia(media, describe_media(media, handle), _find_stamp(media.path))

    def require_access(self, media_handle: str) -> None:
        """AccessDeniedError if every file of these media is outside the roots, whether or not it exists."""
        paths = self.store.media_paths(media_handle)
        if paths and not any(self.may_read(path) for path in paths):
            raise self.access.refuse()

    def allows(self, handle: str) -> bool:
        """Whether the media behind a handle may be read, for lists of handles that agents see. False for one
        that cannot be looked up."""
        kind = parse_kind(handle)
        try:
            if kind is not None and self.access.roots is not None:
                self.require_access(self.find_media_handle(handle, kind, Run()))
        except (AccessDeniedError, RequestError, StoreError):
            return False
        return kind is not None

    def may_read(self, path: Path) -> bool:
        """Bytes that a program passed have no place of their own; whoever was given their handle may use
        it."""
        return path.parent == self._uploads or self.access.allows(path)

    def _require_links(self, path: Path) -> None:
        """AccessDeniedError if a frame of a folder is a link to a file that may not be read."""
        if self.access.roots is None or not os.path.isdir(path):  # noqa: PTH112  # raises nothing
            return
        for link in find_links(path):
            if not self.access.allows(link):
                raise AccessDeniedError(
                    f"{path.name}/{link.name} is a link that leads out of the folders that may be read.",
                    hint="Copy the frames into the folder, or ask for the other folder to be allowed.",
                )

    def may_list(self, handle: str, places: Sequence[Media]) -> bool:
        """Whether results about the media at these places may be shown to someone who does not know their
        handles."""
        if self.access.roots is None or handle in self._in_memory:
            return True
        return any(place.path is not None and self.access.allows(place.path) for place in places)

    def find_path(self, source: Any) -> Path | None:
        """The real path that a source names, which need not exist any more. None for handles and for media in
        memory. TypeError, and the errors of `AccessPolicy.resolve` for what may not be read."""
        if source_kind(source) != "path" or looks_like_handle(os.fsdecode(source)):
            return None
        text = os.fsdecode(source)
        try:
            return self.access.resolve(text)
        except MediaNotFoundError:
            path = Path(os.path.realpath(os.path.expanduser(text)))  # noqa: PTH111
            if not self.access.allows(path):
                raise
            return path

    def _check_limits(self, media: Media) -> None:
        """The present limits: a handle may date from a time of wider ones. Raises MediaTooLargeError."""
        check_pixels(media.name, media.size_wh, self.limits)
        check_frames(media.name, media.frame_count, self.limits)
        check_duration(media.name, media.duration_s or 0.0, self.limits)
        if media.path is not None and media.path.is_file():
            check_bytes(media.name, media.path.stat().st_size, self.limits)

    def has_changed(self, opened: OpenedMedia) -> bool:
        """Whether its file has been changed or removed since it was opened."""
        if _find_stamp(opened.media.path) == opened.stamp:
            return False
        try:
            return not is_unchanged(opened.media)
        except (OSError, MediaError):
            return True

    def _probe(self, path: Path, reading: Reading, run: Run) -> tuple[Media, str | None]:
        """A path is probed again only if its stamp has changed, because long files take seconds. Raises
        MediaUnreadableError if the file changes meanwhile."""
        self._require_links(path)
        before = _find_stamp(path)
        known = self._probed.get((path, reading))
        if known is not None and known[1] == before:
            self._check_limits(known[0])
            return known
        media = open_media(path, self.limits, run, video_stream=reading.video_stream, fps=reading.fps)
        if before is not None and _find_stamp(path) != before:
            raise MediaUnreadableError(
                f"{path.name} changed while it was being read.",
                hint="Wait until it is completely written or downloaded, then try again.",
            )
        if before is not None:
            with self._lock:
                self._probed[(path, reading)] = (media, before)
                if len(self._probed) > _MAX_PROBED:
                    self._probed.popitem(last=False)
        return media, before

    def find_media_handle(self, handle: str, kind: str, run: Run) -> str:
        """The `media:` handle that a handle of any kind leads to. UnknownHandleError, RequestError."""
        if kind == "mask":
            return self.store.mask_media(handle, run)
        if kind == "answer":
            found = self.store.get_answer(handle).media_handle
            if found is None:
                raise RequestError(f"{handle} refers to no image or video.", hint="Give a media handle.")
            return found
        return handle

    # ---- masks --------------------------------------------------------------------------------

    def masks(
        self, handles: Sequence[str], opened: OpenedMedia, run: Run | None = None
    ) -> list[tuple[str, MaskRecord]]:
        """The masks that handles stand for (`answer:` has several, `media:` none), each once.

        Raises RequestError for a mask over other media, UnknownHandleError.
        """
        names: list[str] = []
        for handle in handles:
            kind = parse_kind(handle)
            if kind == "answer":
                names += self.store.get_answer(handle).mask_handles
            elif kind != "media":
                names.append(handle)
        return [(name, self.mask(name, opened, run)) for name in dict.fromkeys(names)]

    def mask(self, handle: str, opened: OpenedMedia, run: Run | None = None) -> MaskRecord:
        """The mask behind a handle. Raises RequestError for one over other media, AccessDeniedError if those
        are outside the roots, UnknownHandleError."""
        record = self.store.get_mask(handle, run)
        if record.media_handle != opened.ref.handle:
            self.require_access(record.media_handle)
            raise RequestError(
                f"{handle} belongs to {record.media_handle}, not to {opened.ref.handle} ({opened.ref.name}).",
                hint="Use masks of one image or video at a time.",
            )
        return record

    def require_same_media(self, sources: Sequence[object], opened: OpenedMedia, run: Run) -> None:
        """RequestError if a path or `media:` handle among the sources is not the opened media."""
        for source in sources:
            if isinstance(source, str) and parse_kind(source.strip()) in ("mask", "answer"):
                continue  # `mask` checks these
            other = self.open(source, run).ref
            if other.handle != opened.ref.handle:
                raise RequestError(
                    f"{other.name} and {opened.ref.name} are different images or videos.",
                    hint="Give one image or video at a time.",
                )


def _find_stamp(path: Path | None) -> str | None:
    """None if there is no file or it cannot be read; opening it tells why."""
    try:
        return None if path is None else compute_stamp(path)
    except OSError:
        return None


def describe_media(media: Media, handle: str) -> MediaRef:
    """What results say about the media."""
    return MediaRef(
        handle=handle,
        kind=media.kind,
        size_wh=media.size_wh,
        frame_count=media.frame_count,
        fps=None if media.fps is None else str(media.fps),
        duration_s=media.duration_s,
        name=media.name,
    )
