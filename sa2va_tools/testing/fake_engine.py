"""A fake engine for tests of the layers above the model.

It opens the media for real, keeps its results in a real store and never loads a model: its masks are
rectangles whose place follows from the words, its answers are fixed sentences. It is deterministic
and needs no torch. It never stands in where a real engine is meant to run.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va_tools import __version__
from sa2va_tools.engine.protocol import Engine, MediaSource, Mode
from sa2va_tools.engine.regions import Region
from sa2va_tools.engine.results import (
    AnswerResult,
    CaptionResult,
    ExportResult,
    MaskObject,
    MediaRef,
    Provenance,
    RegionCaption,
    SegmentResult,
    ViewResult,
)
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle as rles_of
from sa2va_tools.masks.export import ExportedMask, write_mask_pngs, write_masks_json
from sa2va_tools.masks.rle import Rle
from sa2va_tools.masks.sheet import contact_sheet
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.media.decode import read_frames
from sa2va_tools.media.encode import encode_image
from sa2va_tools.media.media import Media, open_media
from sa2va_tools.media.sampling import select_frames
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress
from sa2va_tools.settings import MediaLimits
from sa2va_tools.store.handles import kind_of
from sa2va_tools.store.records import AnswerRecord, MaskRecord
from sa2va_tools.store.store import Store
from sa2va_tools.testing.shapes import ShapeAt, drawn_region, drifting, still

ABSENT_WORD = "unicorn"
"""An expression with this word is not found."""
_SCORE = 0.9
_JPEG_QUALITIES = (90, 75, 60, 40)


class FakeEngine(Engine):
    """See the module. Without `store_dir` its store is a temporary folder that `close` removes."""

    def __init__(
        self,
        store_dir: Path | None = None,
        *,
        access: AccessPolicy | None = None,
        limits: MediaLimits | None = None,
    ) -> None:
        root = store_dir
        if root is None:
            root = Path(tempfile.mkdtemp(prefix="sa2va-fake-"))
            self._remove_store = weakref.finalize(self, shutil.rmtree, root, ignore_errors=True)
        self.store = Store(root)
        self._access = access or AccessPolicy(None)
        self._limits = limits or MediaLimits()

    def describe(
        self,
        media: MediaSource,
        question: str | None = None,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        key_frames: int | None = None,
        max_new_tokens: int | None = None,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> AnswerResult:
        opened, ref = self._opened(media)
        frames = select_frames(opened, start_s=start_s, end_s=end_s, stride=stride)
        on_progress(Progress("answer", 0))
        _check(cancel)
        text = f"A {opened.kind} of {ref.size_wh[0]} by {ref.size_wh[1]} pixels."
        provenance = _provenance(ref, "chat", frames[: key_frames or 5], 0)
        return self._answer(ref, "describe", question or "Describe it.", text, (), provenance)

    def segment(
        self,
        media: MediaSource,
        expressions: str | Sequence[str],
        *,
        mode: Mode = "auto",
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        key_frames: int | None = None,
        gate_by_object_score: bool = True,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> SegmentResult:
        opened, ref = self._opened(media)
        frames = select_frames(opened, start_s=start_s, end_s=end_s, stride=stride)
        wanted = [expressions] if isinstance(expressions, str) else list(expressions)
        shown_mode = "image" if opened.kind == "image" else ("sa2va" if mode == "auto" else mode)
        provenance = _provenance(ref, shown_mode, frames[: key_frames or 5], len(frames))
        objects = tuple(
            self._object(
                opened, ref, label, frames, drifting(label, opened.size_wh), provenance, on_progress, cancel
            )
            for label in wanted
        )
        return self._segmented(ref, "segment", objects, provenance, tuple(f"Here is {w}." for w in wanted))

    def ground(
        self,
        media: MediaSource,
        question: str | None = None,
        *,
        mode: Mode = "auto",
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        key_frames: int | None = None,
        gate_by_object_score: bool = True,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> AnswerResult:
        result = self.segment(
            media,
            ["a box", "another box"],
            mode=mode,
            start_s=start_s,
            end_s=end_s,
            stride=stride,
            key_frames=key_frames,
            on_progress=on_progress,
            cancel=cancel,
        )
        text = "There is a box and another box."
        return self._answer(
            result.media, "ground", question or "Describe it.", text, result.objects, result.provenance
        )

    def caption_region(
        self,
        media: MediaSource,
        regions: Region | Sequence[Region],
        question: str | None = None,
        *,
        frame_index: int | None = None,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> CaptionResult:
        opened, ref = self._opened(media)
        wanted = [regions] if isinstance(regions, Region) else list(regions)
        index = self._default_frame(wanted) if frame_index is None else frame_index
        _check_frame(opened, index)
        provenance = _provenance(ref, "image", (index,), 0)
        captions = []
        for number, region in enumerate(wanted, start=1):
            here = self._region_rle(opened, ref, region, index)
            shape = self._object(
                opened,
                ref,
                f"region {number}",
                (index,),
                still(here),
                provenance,
                on_progress,
                cancel,
            )
            captions.append(RegionCaption(shape, f"This region covers {rles_of.area(here)} pixels."))
        texts = "\n".join(caption.text for caption in captions)
        objects = tuple(caption.region for caption in captions)
        answer = self._answer(ref, "caption", question or "Describe it.", texts, objects, provenance)
        return CaptionResult(answer.handle, ref, index, tuple(captions), provenance)

    def track(
        self,
        media: MediaSource,
        regions: Region | Sequence[Region],
        *,
        frame_index: int = 0,
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        gate_by_object_score: bool = True,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> SegmentResult:
        opened, ref = self._opened(media)
        _check_frame(opened, frame_index)
        frames = select_frames(opened, start_s=start_s, end_s=end_s, stride=stride)
        provenance = _provenance(ref, "sa2va", (frame_index,), len(frames))
        objects = []
        wanted = [regions] if isinstance(regions, Region) else regions
        for number, region in enumerate(wanted, start=1):
            here = self._region_rle(opened, ref, region, frame_index)
            objects.append(
                self._object(
                    opened,
                    ref,
                    f"region {number}",
                    frames,
                    still(here),
                    provenance,
                    on_progress,
                    cancel,
                )
            )
        return self._segmented(ref, "track", tuple(objects), provenance, ())

    def view(
        self,
        handles: str | Sequence[str],
        *,
        media: MediaSource | None = None,
        frame_index: int | None = None,
        max_frames: int = 9,
        max_side: int = 1280,
        max_bytes: int = 300_000,
    ) -> ViewResult:
        given = [handles] if isinstance(handles, str) else list(handles)
        opened, ref = self._opened(self.media_of(given[0]).handle if media is None else media)
        masks = self._masks_behind(given, ref)
        if frame_index is not None:
            _check_frame(opened, frame_index)
            frames: tuple[int, ...] = (frame_index,)
        else:
            frames = tuple(
                dict.fromkeys(np.linspace(0, opened.frame_count - 1, max_frames, dtype=int).tolist())
            )
        drawn = [
            [(n, mask.track.mask(f)) for n, (_, mask) in enumerate(masks, start=1) if mask.track.covers(f)]
            for f in frames
        ]
        captions = [f"{f}" if opened.kind == "video" else "" for f in frames]
        sheet, scale = contact_sheet(read_frames(opened, frames), captions, max_side, objects=drawn)
        legend = tuple((n, handle, mask.label) for n, (handle, mask) in enumerate(masks, start=1))
        image = _jpeg(sheet, max_bytes)
        return ViewResult(image, "image/jpeg", (sheet.shape[1], sheet.shape[0]), legend, frames, scale, ref)

    def export(
        self,
        handles: str | Sequence[str],
        out_dir: Path,
        *,
        overlay: bool = True,
        on_progress: ProgressCallback = ignore_progress,
        cancel: CancelToken | None = None,
    ) -> ExportResult:
        """No overlay: `masks.json` and the PNGs only."""
        given = [handles] if isinstance(handles, str) else list(handles)
        opened, ref = self._opened(self.media_of(given[0]).handle)
        masks = [ExportedMask(h, m.label, m.score, m.track) for h, m in self._masks_behind(given, ref)]
        out_dir.mkdir(parents=True, exist_ok=True)
        info = {"name": ref.name, "size_wh": ref.size_wh, "frame_count": ref.frame_count, "fps": ref.fps}
        write_masks_json(out_dir / "masks.json", info, masks, opened.timestamps_s)
        write_mask_pngs(out_dir / "masks", masks)
        return ExportResult({"masks_json": str(out_dir / "masks.json"), "mask_pngs": str(out_dir / "masks")})

    def media_of(self, source: MediaSource) -> MediaRef:
        handle = str(source)
        kind = handle.partition(":")[0]
        if kind == "mask":
            handle = self.store.get_mask(handle).media_handle
        elif kind == "answer":
            handle = self.store.get_answer(handle).media_handle or handle
        return self._opened(handle)[1]

    def frame_index_at(self, media: MediaSource, time_s: float) -> int:
        opened = self._opened(self.media_of(media).handle)[0]
        return int(np.searchsorted(opened.timestamps_s, time_s + 1e-6, side="right")) - 1

    def close(self) -> None:
        """Nothing to let go of but a temporary store, which goes with the engine."""

    def _opened(self, source: MediaSource) -> tuple[Media, MediaRef]:
        text = str(source)
        if text.startswith(("media:", "mask:", "answer:")):
            media, handle = self.store.get_media(text), text
        else:
            media = open_media(self._access.resolve(source), self._limits)
            handle = self.store.put_media(media)
        fps = None if media.fps is None else str(media.fps)
        ref = MediaRef(
            handle, media.kind, media.size_wh, media.frame_count, fps, media.duration_s, media.name
        )
        return media, ref

    def _object(
        self,
        media: Media,
        ref: MediaRef,
        label: str,
        frames: Sequence[int],
        shape_at: ShapeAt,
        provenance: Provenance,
        on_progress: ProgressCallback,
        cancel: CancelToken | None,
    ) -> MaskObject:
        rles = []
        for done, frame in enumerate(frames, start=1):
            _check(cancel)
            rles.append(shape_at(frame))
            on_progress(Progress("propagate", done, len(frames), label))
        if ABSENT_WORD in label:
            return MaskObject(label, False, "the answer points at nothing", None, None, 0.0)
        ones = (1.0,) * len(rles)
        track = MaskTrack(media.size_wh, tuple(frames), tuple(rles), ones, (_SCORE,) * len(rles))
        handle = self.store.put_mask(MaskRecord(ref.handle, label, track, _SCORE, {"mode": provenance.mode}))
        times_s = tuple(media.timestamps_s[f] for f in frames) if media.kind == "video" else ()
        return MaskObject(label, True, "", handle, track, _SCORE, times_s=times_s)

    def _answer(
        self,
        ref: MediaRef,
        kind: str,
        question: str,
        text: str,
        objects: tuple[MaskObject, ...],
        provenance: Provenance,
    ) -> AnswerResult:
        handles = tuple(item.handle for item in objects if item.handle)
        labels = tuple(item.label for item in objects)
        handle = self.store.put_answer(AnswerRecord(ref.handle, kind, question, text, text, handles, labels))
        return AnswerResult(handle, ref, question, text, text, objects, provenance)

    def _segmented(
        self,
        ref: MediaRef,
        kind: str,
        objects: tuple[MaskObject, ...],
        provenance: Provenance,
        answers: tuple[str, ...],
    ) -> SegmentResult:
        question = "\n".join(item.label for item in objects)
        answer = self._answer(ref, kind, question, "\n".join(answers), objects, provenance)
        return SegmentResult(answer.handle, ref, objects, answers, provenance)

    def _masks_behind(self, handles: Sequence[str], ref: MediaRef) -> list[tuple[str, MaskRecord]]:
        named: list[str] = []
        for handle in handles:
            if kind_of(handle) == "answer":
                named += self.store.get_answer(handle).mask_handles
            elif handle != ref.handle:
                named.append(handle)
        return [(handle, self._mask_of(handle, ref)) for handle in dict.fromkeys(named)]

    def _mask_of(self, handle: str, ref: MediaRef) -> MaskRecord:
        record = self.store.get_mask(handle)
        if record.media_handle != ref.handle:
            raise RequestError(
                f"{handle} is a mask over {record.media_handle}, not over {ref.handle}.",
                hint="Use handles of one image or video at a time.",
            )
        return record

    def _default_frame(self, regions: Sequence[Region]) -> int:
        handles = [region.mask for region in regions if region.mask is not None]
        return self.store.get_mask(handles[0]).track.largest_frame if handles else 0

    def _region_rle(self, media: Media, ref: MediaRef, region: Region, frame: int) -> Rle:
        if region.mask is not None:
            return self._mask_of(region.mask, ref).track.at(frame)
        return drawn_region(region, media.size_wh)


def _check_frame(media: Media, frame_index: int) -> None:
    if frame_index >= media.frame_count:
        raise RequestError(
            f"Frame {frame_index} is out of range: {media.name} has {media.frame_count} frames.",
            hint=f"Use 0 … {media.frame_count - 1}.",
        )


def _check(cancel: CancelToken | None) -> None:
    if cancel is not None:
        cancel.raise_if_cancelled()


def _provenance(ref: MediaRef, mode: str, key_frames: Sequence[int], frames: int) -> Provenance:
    return Provenance(
        "fake", "none", "fake", mode, tuple(key_frames), frames, ref.size_wh, "cpu", "none", __version__
    )


def _jpeg(rgb: NDArray[np.uint8], max_bytes: int) -> bytes:
    image = b""
    for quality in _JPEG_QUALITIES:
        image = encode_image(rgb, "jpeg", quality)
        if len(image) <= max_bytes:
            break
    return image
