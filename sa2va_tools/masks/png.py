"""Masks as PNG files: one indexed picture per frame, and with few frames one black and white picture per
object and frame."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from sa2va_tools import atomic
from sa2va_tools.errors import RequestError
from sa2va_tools.masks.draw import NumberedMask
from sa2va_tools.masks.export import ExportedMask
from sa2va_tools.masks.palette import pick_color
from sa2va_tools.media.marks import is_own_file, mark_file
from sa2va_tools.run import Run, raise_if_cancelled

MAX_INDEXED = 255
"""The number of objects that one indexed PNG can distinguish."""
BINARY_UP_TO_FRAMES = 16
"""With no more covered frames than this, each object gets binary PNGs too."""
_MAX_NAME_BYTES = 255


def write_mask_pngs(
    folder: Path,
    objects: Sequence[ExportedMask],
    *,
    frame_names: Sequence[str] = (),
    binary_up_to_frames: int = BINARY_UP_TO_FRAMES,
    on_frame: Callable[[int, int], None] | None = None,
    run: Run | None = None,
) -> int:
    """Write the masks of all covered frames into `folder`, which appears whole or not at all. Returns the
    number of files.

    `frame_000012.png`: indexed, in the source's size; 0 is background, n is the n-th object, in the colours
    of the overlay; where masks overlap, the smaller one is on top. With few frames also
    `object_03_frame_000012.png`: the third object alone, 0 or 255. `frame_names` are the names of the
    source's frames, if these are files: then `IMG_12.jpg` gives `IMG_12.png` and `object_03_IMG_12.png`.

    `on_frame(done, total)` is called after each frame; if it raises, nothing is written. Raises RequestError
    for no objects, more than MAX_INDEXED or unequal sizes, StoreError if the folder contains other files or
    the disk refuses, CancelledError.
    """
    _check_objects(objects)
    frames = sorted({index for entry in objects for index in entry.track.frame_indices})
    with_binaries = len(frames) <= binary_up_to_frames
    names = _Names(frames, frame_names)
    with atomic.update_folder(folder.parent, is_own=lambda path, _: is_own_folder(path)) as temporary:
        pictures = temporary / folder.name
        pictures.mkdir()
        for done, frame_index in enumerate(frames, start=1):
            masks = []
            for number, entry in enumerate(objects, start=1):
                raise_if_cancelled(run)
                if entry.track.covers(frame_index):
                    masks.append((number, entry.track.mask(frame_index)))
            _save(_draw_indexed(masks, run), pictures / names.find(frame_index))
            if with_binaries:
                for number, mask_hw in masks:
                    raise_if_cancelled(run)
                    picture = Image.fromarray(mask_hw.astype(np.uint8) * np.uint8(255))
                    _save(picture, pictures / names.find_binary(number, frame_index))
            if on_frame is not None:
                on_frame(done, len(frames))
        return sum(1 for _ in pictures.iterdir())


def is_own_folder(path: Path) -> bool:
    """Whether this is a folder, and everything in it is a PNG of ours."""
    if path.is_symlink() or not path.is_dir():
        return False
    return all(entry.suffix == ".png" and is_own_file(entry) for entry in path.iterdir())


class _Names:
    """The names of the pictures, each once, also on disks that take `A` and `a` for the same letter."""

    def __init__(self, frames: Sequence[int], frame_names: Sequence[str]) -> None:
        self._used: set[str] = set()
        self._names: dict[int, str] = {}
        files: Mapping[int, str] = {frame: frame_names[frame] for frame in frames} if frame_names else {}
        stems = Counter(_fold(PurePath(file).stem) for file in files.values())
        for frame, file in files.items():  # single stems first: they are sure to stay as they are
            if stems[_fold(PurePath(file).stem)] == 1:
                self._names[frame] = self._take(PurePath(file).stem, f"frame_{frame:06d}")
        for frame in frames:
            if frame not in self._names:
                self._names[frame] = self._take(files.get(frame, ""), f"frame_{frame:06d}")

    def find(self, frame: int) -> str:
        """The indexed picture of a frame."""
        return self._names[frame]

    def find_binary(self, number: int, frame: int) -> str:
        """The picture of one object on a frame."""
        stem = PurePath(self._names[frame]).stem
        return self._take(f"object_{number:02d}_{stem}", f"object_{number:02d}_frame_{frame:06d}")

    def _take(self, *stems: str) -> str:
        """A free name: of the first stem that is not empty, too long or taken."""
        tries = [*(stem for stem in stems if stem), *(f"{stems[-1]}_{n}" for n in range(2, 9999))]
        fitting = (f"{stem}.png" for stem in tries if len(os.fsencode(stem)) + 4 <= _MAX_NAME_BYTES)
        name = next(name for name in fitting if _fold(name) not in self._used)
        self._used.add(_fold(name))
        return name


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path)
    mark_file(path)


def _check_objects(objects: Sequence[ExportedMask]) -> None:
    if not 0 < len(objects) <= MAX_INDEXED:
        raise RequestError(
            f"PNG masks can be written for 1 … {MAX_INDEXED} objects, got {len(objects)}.",
            hint="Give the handles of the masks that you need.",
        )
    sizes = sorted({entry.track.size_wh for entry in objects})
    if len(sizes) > 1:
        raise RequestError(
            f"The masks have different sizes (width, height): {sizes}.",
            hint="Export the masks of one image or video at a time.",
        )


def _draw_indexed(masks: Sequence[NumberedMask], run: Run | None) -> Image.Image:
    """All masks of a frame as a palette picture, the largest at the bottom."""
    canvas = np.zeros(masks[0][1].shape, dtype=np.uint8)
    for number, mask_hw in sorted(masks, key=lambda entry: -np.count_nonzero(entry[1])):
        raise_if_cancelled(run)
        canvas[mask_hw] = number
    picture = Image.fromarray(canvas)
    colors = [pick_color(number) for number in range(1, MAX_INDEXED + 1)]
    picture.putpalette([0, 0, 0, *(value for color in colors for value in color)])
    return picture
