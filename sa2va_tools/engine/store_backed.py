"""What all engines of this process share: lookups, pictures and files. Knows no model."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from os import PathLike
from typing import Any

import numpy as np

from sa2va_tools.checks import (
    check_flag,
    check_number,
    check_texts,
    check_whole_number,
    start_run,
    type_error,
)
from sa2va_tools.engine.calls import Call, Calls
from sa2va_tools.engine.clip import Clip, check_frame
from sa2va_tools.engine.exporting import needs_pixels, save_objects, to_exported_masks
from sa2va_tools.engine.library import Library, OpenedMedia, describe_media
from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.mask_object import MaskObject, MediaRef
from sa2va_tools.engine.options import FrameRange, SegmentOptions, TrackOptions
from sa2va_tools.engine.protocol import Engine, MediaInput, MediaSource
from sa2va_tools.engine.region_masks import RegionsOnFrame, check_regions
from sa2va_tools.engine.regions import Region
from sa2va_tools.engine.requests import Expressions
from sa2va_tools.engine.result_removal import remove_results
from sa2va_tools.engine.results import ResultKind, SegmentResult, ViewResult
from sa2va_tools.engine.stored_results import (
    LoadedResult,
    StoredResult,
    list_results,
    load_objects,
    load_result,
    require_readable,
)
from sa2va_tools.engine.tracks import run_to_end
from sa2va_tools.engine.viewing import draw_view
from sa2va_tools.errors import MediaNotFoundError, RequestError, StoreError
from sa2va_tools.masks.export import render_masks_json
from sa2va_tools.media.sampling import select_frames
from sa2va_tools.memory_errors import translate_memory_errors
from sa2va_tools.run import Run
from sa2va_tools.store.handles import looks_like_handle, parse_kind
from sa2va_tools.store.removal import Removal
from sa2va_tools.wording import argument

_MAX_PICTURES = 2
"""Drawn at the same time."""
_POLL_S = 0.1

_ACCEPTED = "a handle or a list of handles"


class StoreBackedEngine(Engine):
    """Implements lookups, views and exports over a `Library`."""

    calls: Calls
    """Answers calls, from the store if it can; every engine sets its own."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._pictures = threading.BoundedSemaphore(_MAX_PICTURES)

    def view(
        self,
        handles: str | Sequence[str],
        *,
        media: MediaSource | None = None,
        frame_index: int | None = None,
        max_frames: int = 9,
        max_side: int = 1280,
        max_bytes: int = 300_000,
        crop: bool = False,
        keep: bool = False,
        run: Run | None = None,
    ) -> ViewResult:
        run = start_run(run)
        given = _as_list(handles)
        if frame_index is not None:
            frame_index = check_whole_number("frame_index", frame_index)
        max_frames = check_whole_number("max_frames", max_frames)
        max_side = check_whole_number("max_side", max_side)
        max_bytes = check_whole_number("max_bytes", max_bytes)
        crop = check_flag("crop", crop)
        keep = check_flag("keep", keep)
        with translate_memory_errors():
            opened = self.library.open(given[0] if media is None else media, run)
            self.library.require_same_media(given[1:] if media is None else given, opened, run)
            names = [name for name in given if isinstance(name, str) and looks_like_handle(name)]
            masks = self.library.masks(names, opened, run)
            with self._room_for_a_picture(run):
                result = draw_view(
                    opened,
                    masks,
                    frame_index=frame_index,
                    max_frames=max_frames,
                    max_side=max_side,
                    max_bytes=max_bytes,
                    crop=crop,
                    run=run,
                )
            return self._keep_view(result) if keep else result

    @contextmanager
    def _room_for_a_picture(self, run: Run) -> Iterator[None]:
        """Pictures never wait for the model, but for each other, because each holds many decoded frames."""
        while not self._pictures.acquire(timeout=_POLL_S):
            run.raise_if_cancelled()
        try:
            yield
        finally:
            self._pictures.release()

    def _keep_view(self, result: ViewResult) -> ViewResult:
        """The result with its file; with a warning if the store cannot be written, because the picture itself
        is there."""
        try:
            return replace(result, path=self.library.store.save_view(result.image, ".jpg"))
        except StoreError as error:
            return replace(result, warnings=(*result.warnings, f"The picture was not kept: {error.message}"))

    def export(
        self,
        handles: str | Sequence[str],
        out_dir: str | PathLike[str],
        *,
        formats: str | Sequence[str] | None = None,
        run: Run | None = None,
    ) -> dict[str, str]:
        run = start_run(run)
        with translate_memory_errors():
            names = check_texts("handles", handles, _ACCEPTED)
            opened, objects = self._load_objects(names, run, needs_pixels=needs_pixels(formats))
            if not objects and not any(parse_kind(name) == "answer" for name in names):
                raise RequestError(
                    "There is no mask to write.",
                    hint="Give the handle of a mask, or of an answer with masks.",
                )
            places = self.library.store.media_paths(opened.ref.handle)
            return save_objects(opened.ref, opened.media, objects, out_dir, formats, run, places=places)

    def masks_json(self, handles: str | Sequence[str], *, run: Run | None = None) -> str:
        with translate_memory_errors():
            names = check_texts("handles", handles, _ACCEPTED)
            opened, objects = self._load_objects(names, start_run(run), needs_pixels=False)
            exported = to_exported_masks(opened.ref, opened.media, objects)
            return render_masks_json(exported, opened.media.timestamps_s)

    def _load_objects(
        self, handles: Sequence[str], run: Run, *, needs_pixels: bool
    ) -> tuple[OpenedMedia, list[MaskObject]]:
        """The masks of these handles, each once, and after them what their answers did not find."""
        if not handles:
            raise RequestError("No handle was given.", hint="Give handles of masks or answers.")
        opened = self._open_recorded(handles[0], run, needs_pixels)
        found = [MaskObject.from_record(*each) for each in self.library.masks(handles, opened, run)]
        missing: dict[str, MaskObject] = {}
        for handle in handles:
            if parse_kind(handle) == "answer":
                record = self.library.store.get_answer(handle)
                objects = load_objects(self.library, record, opened.media, run)
                missing |= {item.label: item for item in objects if not item.found}
        return opened, [*found, *missing.values()]

    def _open_recorded(self, handle: str, run: Run, needs_pixels: bool) -> OpenedMedia:
        """The media of a handle. If the file is gone and no pixels are needed, what the store knows of it."""
        try:
            return self.library.open(handle, run)
        except MediaNotFoundError as error:
            kind = parse_kind(handle)
            if kind is None:
                raise
            if needs_pixels:
                error.add_hint(f"Masks alone can be written all the same: {argument('formats', 'json')}.")
                raise
            name = self.library.find_media_handle(handle, kind, run)
            media = require_readable(self.library, name)
            return OpenedMedia(media, describe_media(media, name))

    def find_media(
        self,
        source: MediaSource,
        *,
        fps: float | Fraction | None = None,
        video_stream: int | None = None,
        run: Run | None = None,
    ) -> MediaRef:
        return self.library.open(source, start_run(run), fps=fps, video_stream=video_stream).ref

    def find_frame(self, media: MediaSource, time_s: float, *, run: Run | None = None) -> int:
        time_s = check_number("time_s", time_s)
        opened = self.library.open(media, start_run(run)).media
        if opened.kind == "video" and not 0 <= time_s <= (opened.duration_s or 0.0):
            raise RequestError(
                f"{argument('time_s')} {time_s:g} is out of range: {opened.name} lasts "
                f"{opened.duration_s:.3f} s.",
                hint=f"Give a {argument('time_s')} within the video, or {argument('frame_index')}.",
            )
        return max(int(np.searchsorted(opened.timestamps_s, time_s + 1e-6, side="right")) - 1, 0)

    def find_handles(self, beginning: str) -> tuple[str, ...]:
        if not isinstance(beginning, str):
            raise type_error("beginning", beginning, "text, such as mask:ab")
        matching = (name for name in self.library.store.handles() if name.startswith(beginning))
        return tuple(name for name in matching if self.library.allows(name))

    # ---- stored results -------------------------------------------------------------------------

    def _list_results(
        self, media: Any, kind: ResultKind | None, text: str, run: Run
    ) -> tuple[StoredResult, ...]:
        return tuple(list_results(self.library, media=media, kind=kind, text=text, run=run))

    def _load_result(self, handle: str, run: Run) -> LoadedResult:
        return load_result(self.library, handle, run)

    def _remove_results(
        self, handles: Sequence[str], older_than_s: float | None, dry_run: bool, run: Run
    ) -> Removal:
        return remove_results(self.library, handles, older_than_s, dry_run=dry_run, run=run)

    # ---- for engines that make masks -------------------------------------------------------------

    def _segment(
        self, media: MediaInput, expressions: Expressions, options: SegmentOptions, run: Run
    ) -> SegmentResult:
        call, frames = self._start_segment(media, expressions, options, run)
        return self.calls.answer(call, lambda: run_to_end(frames))

    def _stream(
        self, media: MediaInput, expressions: Expressions, options: SegmentOptions, run: Run
    ) -> Generator[FrameResult, None, SegmentResult]:
        call, frames = self._start_segment(media, expressions, options, run)
        return (yield from self.calls.stream(call, frames))

    @abstractmethod
    def _start_segment(
        self, media: MediaInput, expressions: Expressions, options: SegmentOptions, run: Run
    ) -> tuple[Call, Generator[FrameResult, None, SegmentResult]]:
        """The checked call, and its work, which begins with the first frame."""

    def _open_clip(self, media: MediaInput, span: FrameRange, run: Run) -> tuple[OpenedMedia, Clip]:
        opened = self._open(media, run)
        return opened, Clip.select(opened.media, span, run)

    def _open_tracked_clip(
        self, media: MediaInput, regions: Sequence[Region], options: TrackOptions, run: Run
    ) -> tuple[OpenedMedia, Clip, int]:
        """Also returns the frame on which the regions are given, which the clip includes."""
        opened, clip = self._open_clip(media, options, run)
        frame = self._choose_frame(regions, opened, options.frame_index, run, clip.frame_indices)
        whole_range = select_frames(opened.media, start_s=options.start_s, end_s=options.end_s)
        return opened, clip.include(frame, whole_range), frame

    def _open(self, media: MediaInput, run: Run) -> OpenedMedia:
        run.report("open", message="reading the media")
        return self.library.open(media.source, run, fps=media.fps, video_stream=media.video_stream)

    def _choose_frame(
        self,
        regions: Sequence[Region],
        opened: OpenedMedia,
        frame_index: int | None,
        run: Run,
        clip_frames: Sequence[int] = (),
    ) -> int:
        """The given frame; or the one (of `clip_frames`, if any) where the first mask handle's mask is
        largest; or the first."""
        if frame_index is not None:
            check_frame(opened.media, frame_index)
            return frame_index
        handles = [region.mask for region in regions if region.mask is not None]
        if not handles:
            return clip_frames[0] if clip_frames else 0
        track = self.library.mask(handles[0], opened, run).track
        inside = [frame for frame in clip_frames if track.covers(frame)]
        return max(inside, key=track.area) if inside else track.largest_frame

    def _check_regions(
        self, regions: Sequence[Region], opened: OpenedMedia, frame_index: int, run: Run
    ) -> RegionsOnFrame:
        return check_regions(
            regions,
            frame_index,
            opened.ref.size_wh,
            lambda handle: self.library.mask(handle, opened, run).track,
            self.library.store.mask_label,
        )


def _as_list(handles: Any) -> list[Any]:
    """A list or tuple of handles, or what `view` takes as media."""
    items = list(handles) if isinstance(handles, list | tuple) else [handles]
    if not items:
        raise RequestError(
            "No handle was given.", hint="Give mask, answer or media handles of earlier results."
        )
    return items
