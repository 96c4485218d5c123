"""Paths and handles → media and masks, under one access policy and one store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2va_tools.engine.results import MediaRef
from sa2va_tools.errors import MediaError, MediaUnreadableError, RequestError
from sa2va_tools.media.limits import check_bytes, check_duration, check_frames, check_pixels
from sa2va_tools.media.media import Media, open_media
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.progress import CancelToken, check_of
from sa2va_tools.settings import MediaLimits
from sa2va_tools.store.handles import KINDS, Kind, id_of, is_handle, kind_of
from sa2va_tools.store.records import MaskRecord
from sa2va_tools.store.stamp import holds, stamp_of
from sa2va_tools.store.store import Store

_MOST_KNOWN = 64
"""Paths whose media need not be read again: their times of frames are some bytes a frame."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A probed image or video and what results say of it."""

    media: Media
    ref: MediaRef
    stamp: str | None = None
    """Of its file, when it was opened."""


class Library:
    """Everything that a name can stand for. The policy holds for handles as well: the store may have
    been filled by someone who was allowed more."""

    def __init__(self, store: Store, access: AccessPolicy, limits: MediaLimits) -> None:
        self.store, self.access, self.limits = store, access, limits
        self._known: OrderedDict[Path, tuple[Media, str]] = OrderedDict()

    def open(self, source: object, cancel: CancelToken | None = None) -> Opened:
        """The media at a path, or behind a `media:`, `mask:` or `answer:` handle."""
        text = str(source)
        kind = kind_of(text.strip())
        if kind is None and is_handle(text):
            id_of(text.strip(), _meant(text))  # raises: a mistyped handle is not a file's name
        if kind is None:
            media, stamp = self._read(self.access.resolve(text), cancel)
            return Opened(media, media_ref(media, self.store.put_media(media)), stamp)
        handle = self._media_handle(text.strip(), kind, cancel)
        paths = self.store.media_paths(handle)
        if not any(self.access.allows(path) for path in paths):
            self.access.resolve(paths[0])  # raises: told apart from a missing file before any look at it
        media = self.store.get_media(handle, self.access.allows, check_of(cancel))
        self._check_limits(media)
        return Opened(media, media_ref(media, handle), _stamp(media.path))

    def _check_limits(self, media: Media) -> None:
        """Those of now: the handle may be from a time of wider ones. Raises MediaTooLargeError."""
        check_pixels(media.name, media.size_wh, self.limits)
        check_frames(media.name, media.frame_count, self.limits)
        check_duration(media.name, media.duration_s or 0.0, self.limits)
        if media.path.is_file():
            check_bytes(media.name, media.path.stat().st_size, self.limits)

    def has_changed(self, opened: Opened) -> bool:
        """Whether its file is another one than when it was opened, or gone."""
        if _stamp(opened.media.path) == opened.stamp:
            return False
        try:
            return not holds(opened.media)
        except (OSError, MediaError):
            return True

    def _read(self, path: Path, cancel: CancelToken | None) -> tuple[Media, str | None]:
        """What was read of a path holds while its stamp does: long files are not read for every question.
        Raises MediaUnreadableError where the file changes while it is looked at."""
        before, known = _stamp(path), self._known.get(path)
        if known is not None and known[1] == before:
            self._check_limits(known[0])
            return known
        media = open_media(path, self.limits, cancel)
        if before is not None and _stamp(path) != before:
            raise MediaUnreadableError(
                f"{path.name} changed while it was being read.",
                hint="Wait until it is written or downloaded, then ask again.",
            )
        if before is not None:
            self._known[path] = media, before
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return media, before

    def _media_handle(self, handle: str, kind: str, cancel: CancelToken | None) -> str:
        if kind == "mask":
            return self.store.mask_media(handle, check_of(cancel))
        if kind == "answer":
            found = self.store.get_answer(handle).media_handle
            if found is None:
                raise RequestError(f"{handle} is not about any image or video.", hint="Give a media handle.")
            return found
        return handle

    def masks(
        self, handles: Sequence[str], opened: Opened, cancel: CancelToken | None = None
    ) -> list[tuple[str, MaskRecord]]:
        """The masks that handles stand for (`answer:` has several, `media:` none), each once.

        Raises RequestError for a mask over other media, UnknownHandleError.
        """
        named: list[str] = []
        for handle in handles:
            kind = kind_of(handle)
            if kind == "answer":
                named += self.store.get_answer(handle).mask_handles
            elif kind != "media":
                named.append(handle)
        return [(handle, self.mask(handle, opened, cancel)) for handle in dict.fromkeys(named)]

    def check_same(self, sources: Sequence[object], opened: Opened, cancel: CancelToken | None) -> None:
        """RequestError where a path or `media:` handle among them is not what is open."""
        for source in sources:
            if kind_of(str(source).strip()) in ("mask", "answer"):
                continue  # held to one media with the masks
            other = self.open(source, cancel).ref
            if other.handle != opened.ref.handle:
                raise RequestError(
                    f"{other.name} is another image or video than {opened.ref.name}.",
                    hint="Give one image or video at a time.",
                )

    def mask(self, handle: str, opened: Opened, cancel: CancelToken | None = None) -> MaskRecord:
        record = self.store.get_mask(handle, check_of(cancel))
        if record.media_handle != opened.ref.handle:
            raise RequestError(
                f"{handle} is a mask over {record.media_handle}, not over {opened.ref.handle} "
                f"({opened.ref.name}).",
                hint="Use masks of one image or video at a time.",
            )
        return record


def _stamp(path: Path) -> str | None:
    """None where nothing can be read: opening tells why."""
    try:
        return stamp_of(path)
    except OSError:
        return None


def _meant(text: str) -> Kind:
    """The kind that a malformed handle begins with."""
    begins = text.strip().partition(":")[0]
    return next(kind for kind in KINDS if kind == begins)


def media_ref(media: Media, handle: str) -> MediaRef:
    return MediaRef(
        handle,
        media.kind,
        media.size_wh,
        media.frame_count,
        None if media.fps is None else str(media.fps),
        media.duration_s,
        media.name,
    )
