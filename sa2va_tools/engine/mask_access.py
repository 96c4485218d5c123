"""Pixels, boxes, files and other libraries' types from a result, decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.checks import as_plain, check_whole_number, is_whole_number, show_value, type_error
from sa2va_tools.engine import conversions
from sa2va_tools.engine.mask_object import MaskObject, MediaRef
from sa2va_tools.errors import RequestError, UnknownObjectError, WrongTypeError

if TYPE_CHECKING:
    from sa2va_tools.media.media import Media


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The masks of all objects on one frame."""

    index: int
    """Source frame index."""
    time_s: float | None
    """Seconds by the source's timestamps; None for an image."""
    labels: tuple[str, ...]
    masks: NDArray[np.bool_]
    """(objects, height, width)"""
    scores: NDArray[np.float32]
    """(objects,) object probability × mean probability inside the mask, 0 … 1; 0 where a mask is empty."""

    def to_detections(self) -> Any:
        """A `supervision.Detections` of the visible objects. MissingExtraError without supervision."""
        return conversions.to_detections(self.masks, self.scores, self.labels)


class MaskStack:
    """Boolean masks (objects, frames, height, width) that are decoded when they are indexed.

    Behaves like a read-only array for reading: `stack[0, 3]` is one mask, `stack[:, 3]` all objects on one
    frame, `np.asarray(stack)` everything at once. Frames count in the order of `frame_indices`. Objects that
    were not found, and frames that were not searched, are all False.
    """

    dtype = np.dtype(np.bool_)
    ndim = 4

    def __init__(
        self, objects: Sequence[MaskObject], frame_indices: tuple[int, ...], size_wh: tuple[int, int]
    ) -> None:
        self._objects = tuple(objects)
        self.frame_indices = frame_indices
        self.shape = (len(self._objects), len(frame_indices), size_wh[1], size_wh[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"MaskStack(shape={self.shape}, dtype=bool)"

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return (self[number] for number in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        masks: NDArray[Any] = self[:, :]
        return masks if dtype is None else masks.astype(dtype)

    def __getitem__(self, item: Any) -> NDArray[np.bool_]:
        """As for an array. UnknownObjectError (also an IndexError) outside it, TypeError for what is no
        index."""
        try:
            return self._decode_all(item)
        except IndexError as error:
            names = "(objects, frames, height, width)"
            text = f"These masks cannot be indexed like this: {error}. Their shape is {self.shape}, {names}."
            if "out of bounds" in str(error):
                raise UnknownObjectError(text, hint="Indices count from 0.") from error
            raise WrongTypeError(
                f"{text} An index must be whole numbers, slices or arrays of these."
            ) from error

    def _decode_all(self, item: Any) -> NDArray[np.bool_]:
        index = item if isinstance(item, tuple) else (item,)
        ellipsis = next((at for at, part in enumerate(index) if part is Ellipsis), None)
        if ellipsis is not None:
            fill = (slice(None),) * (self.ndim - len(index) + 1)
            index = (*index[:ellipsis], *fill, *index[ellipsis + 1 :])
        first, second = (*index, slice(None), slice(None))[:2]
        objects = np.arange(self.shape[0])[first]
        frames = np.arange(self.shape[1])[second]
        masks = np.zeros((objects.size, frames.size, *self.shape[2:]), np.bool_)
        for row, number in enumerate(objects.ravel()):
            for column, position in enumerate(frames.ravel()):
                masks[row, column] = self._decode(int(number), int(position))
        masks = masks.reshape(*objects.shape, *frames.shape, *self.shape[2:])
        leading = (slice(None),) * (objects.ndim + frames.ndim)
        return np.asarray(masks[leading + index[2:]], np.bool_)

    def _decode(self, number: int, position: int) -> NDArray[np.bool_]:
        item = self._objects[number]
        frame = self.frame_indices[position]
        if item.track is None or not item.track.covers(frame):
            return np.zeros(self.shape[2:], np.bool_)
        return item.track.mask(frame)


class MaskCollection:
    """What every result with masks offers: `result["the red car"].mask(12)`, `result.masks`, iteration over
    frames, files, and types of other libraries."""

    __slots__ = ()
    if TYPE_CHECKING:  # fields of the dataclasses that inherit from this class

        @property
        def objects(self) -> tuple[MaskObject, ...]: ...
        @property
        def media(self) -> MediaRef: ...
        @property
        def source(self) -> Media | None: ...

    def __getitem__(self, key: str | int) -> MaskObject:
        """An object by its label, or by its number from 0. UnknownObjectError (also a KeyError and an
        IndexError) names the labels there are; TypeError for anything but text and whole numbers."""
        if isinstance(key, str):
            for item in self.objects:
                if item.label == key:
                    return item
        elif is_whole_number(number := as_plain(key)):
            if -len(self.objects) <= number < len(self.objects):
                return self.objects[int(number)]
        else:
            raise type_error("an object's key", key, "its label (text) or its number, from 0")
        labels = ", ".join(repr(item.label) for item in self.objects) or "none"
        raise UnknownObjectError(
            f"There is no object {show_value(key)} in this result; its objects are: {labels}.",
            hint="Give one of these labels, or a number from 0.",
        )

    def __len__(self) -> int:
        return len(self.objects)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[FrameResult]:
        """Frame by frame, in the order of time."""
        return (self.frame(index) for index in self.frame_indices)

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Source frames that have masks, increasing."""
        return tuple(sorted({frame for item in self.objects for frame in item.frame_indices}))

    @property
    def masks(self) -> MaskStack:
        """All masks, (objects, frames, height, width), decoded when they are indexed."""
        return MaskStack(self.objects, self.frame_indices, self.media.size_wh)

    def frame(self, frame_index: int | None = None) -> FrameResult:
        """The masks of all objects on a source frame, which may be left out for an image. RequestError for a
        frame without masks."""
        frames = self.frame_indices
        if frame_index is not None:
            frame_index = check_whole_number("frame_index", frame_index)
        elif len(frames) == 1:
            frame_index = frames[0]
        if frame_index is None or frame_index not in frames:
            shown = f"{frames[0]} to {frames[-1]}" if frames else "none"
            raise RequestError(
                f"Frame {frame_index} has no masks in this result; frames with masks: {shown}.",
                hint="Give one of `result.frame_indices`.",
            )
        at = frames.index(frame_index)
        covered = [
            item.track if item.track and item.track.covers(frame_index) else None for item in self.objects
        ]
        scores = [0.0 if track is None else track.score(frame_index) for track in covered]
        times = next((item.times_s for item in self.objects if item.frame_indices == frames), ())
        return FrameResult(
            index=frame_index,
            time_s=times[at] if times else None,
            labels=tuple(item.label for item in self.objects),
            masks=self.masks[:, at],
            scores=np.asarray(scores, np.float32),
        )

    def to_detections(self, frame_index: int | None = None) -> Any:
        """A `supervision.Detections` of the objects that are visible on a frame (`frame_index` as in
        `frame`). `tracker_id` is an object's number, from 0, and `data["class_name"]` its label.
        MissingExtraError without supervision."""
        return self.frame(frame_index).to_detections()

    def to_dataframe(self) -> Any:
        """A `pandas.DataFrame` with one row per object and frame: label, handle, frame_index, time_s, area,
        box, scores and doubts. MissingExtraError without pandas."""
        return conversions.to_dataframe(self.objects)

    def to_coco(self) -> dict[str, Any]:
        """A COCO dataset: an image per frame, an annotation (RLE) per visible mask, a category per label.
        What was not found is in `info`, with the reason."""
        names = conversions.name_frames(self.source)
        return conversions.to_coco(self.media, self.objects, self.frame_indices, names)

    def save(
        self, out_dir: str | PathLike[str], formats: str | Sequence[str] | None = None
    ) -> dict[str, str]:
        """Write files into a folder: `json` (RLE of each object and frame), `png` (indexed masks), `overlay`
        (a picture or video in the size of the media, with `legend.png` beside it), `npz`, `coco`, `polygons`.
        Default: json, png and overlay. `masks.json` is always written, and also names what was not found; if
        nothing was found, it is all that is written, besides coco and polygons. For a folder of frames, PNGs
        have the names of the frames.

        A later export replaces files of an earlier one, and removes those of other masks. Files that no
        export wrote, or that were changed since, are never replaced. All files appear, or none.

        Returns kind → path. Raises RequestError for an unknown format, StoreError if the disk refuses or
        other files would be lost.
        """
        from sa2va_tools.engine.exporting import save_objects  # not before: it loads a video decoder

        return save_objects(self.media, self.source, self.objects, out_dir, formats)
