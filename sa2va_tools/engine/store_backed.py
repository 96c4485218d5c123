"""What every engine of this process shares: names, pictures and files. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sa2va_tools.engine.exporting import media_info, write_files
from sa2va_tools.engine.library import Library, Opened
from sa2va_tools.engine.protocol import Engine, MediaSource
from sa2va_tools.engine.results import ExportResult, MediaRef, ViewResult
from sa2va_tools.engine.viewing import draw_view
from sa2va_tools.errors import RequestError
from sa2va_tools.masks.export import ExportedMask, masks_json
from sa2va_tools.progress import CancelToken, ProgressCallback, ignore_progress
from sa2va_tools.shortage import telling
from sa2va_tools.store.handles import is_handle


class StoreBackedEngine(Engine):
    """Implements looking up, viewing and exporting over a `Library`."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def view(
        self,
        handles: str | Sequence[str],
        *,
        media: MediaSource | None = None,
        frame_index: int | None = None,
        max_frames: int = 9,
        max_side: int = 1280,
        max_bytes: int = 300_000,
        cancel: CancelToken | None = None,
    ) -> ViewResult:
        given = _listed(handles)
        with telling():
            opened = self.library.open(given[0] if media is None else media, cancel)
            self.library.check_same(given[1:] if media is None else given, opened, cancel)
            masks = self.library.masks([name for name in given if is_handle(name)], opened, cancel)
            return draw_view(
                opened,
                masks,
                frame_index=frame_index,
                max_frames=max_frames,
                max_side=max_side,
                max_bytes=max_bytes,
                cancel=cancel,
            )

    def export(
        self,
        handles: str | Sequence[str],
        out_dir: str | Path,
        *,
        overlay: bool = True,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> ExportResult:
        with telling():
            opened, objects = self._exported(handles, cancel)
            return write_files(
                opened, objects, Path(out_dir), overlay=overlay, on_progress=on_progress, cancel=cancel
            )

    def masks_json(self, handles: str | Sequence[str]) -> str:
        with telling():
            opened, objects = self._exported(handles, None)
            return masks_json(media_info(opened), objects, opened.media.timestamps_s)

    def _exported(
        self, handles: str | Sequence[str], cancel: CancelToken | None
    ) -> tuple[Opened, list[ExportedMask]]:
        given = _listed(handles)
        opened = self.library.open(given[0], cancel)
        masks = self.library.masks(given, opened, cancel)
        return opened, [ExportedMask(name, kept.label, kept.score, kept.track) for name, kept in masks]

    def media_of(self, source: MediaSource, *, cancel: CancelToken | None = None) -> MediaRef:
        return self.library.open(source, cancel).ref

    def frame_index_at(self, media: MediaSource, time_s: float, *, cancel: CancelToken | None = None) -> int:
        opened = self.library.open(media, cancel).media
        if opened.kind == "video" and not 0 <= time_s <= (opened.duration_s or 0.0):
            raise RequestError(
                f"time_s {time_s:g} is out of range: {opened.name} lasts {opened.duration_s:.3f} s.",
                hint="Give a second of the video, or frame_index.",
            )
        return max(int(np.searchsorted(opened.timestamps_s, time_s + 1e-6, side="right")) - 1, 0)


def _listed(handles: str | Sequence[str]) -> list[str]:
    given = [handles] if isinstance(handles, str) else list(handles)
    if not given:
        raise RequestError(
            "No handle was given.", hint="Give mask:, answer: or media: handles of earlier results."
        )
    return given
