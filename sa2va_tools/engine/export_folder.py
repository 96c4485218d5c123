"""What an export may replace or remove: files of earlier exports that nobody has changed, nothing else."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sa2va_tools.errors import RequestError, StoreError
from sa2va_tools.masks.png import is_own_folder
from sa2va_tools.media.marks import is_own_file

INDEX = "masks.json"
PNG_FOLDER = "masks"
OVERLAYS = ("overlay.png", "overlay.mp4")
LEGEND = "legend.png"
NPZ, COCO, POLYGONS = "masks.npz", "coco.json", "polygons.json"
FILES = (INDEX, *OVERLAYS, LEGEND, NPZ, COCO, POLYGONS)
"""What an export may write, besides the folder of PNGs."""


def is_own(path: Path, name: str) -> bool:
    """Whether an export wrote this, whose name was `name`, and nobody has changed it."""
    return is_own_folder(path) if name == PNG_FOLDER else is_own_file(path, name)


def require_free(out_dir: Path, names: Iterable[str], sources: Iterable[Path]) -> None:
    """StoreError if one of these names belongs to something that is not from an export, RequestError if the
    export could replace or remove one of `sources`, the places of the media, or add frames to it."""
    if "\0" in str(out_dir):
        raise RequestError("A folder name cannot contain a NUL character.", hint="Choose another folder.")
    _require_folder(out_dir)
    real = [source.resolve() for source in sources]
    if out_dir.resolve() in real:
        raise RequestError(
            f"{out_dir} contains the frames of this video; pictures of the export would become frames, too.",
            hint="Choose another folder.",
        )
    for target in (out_dir / name for name in (*FILES, PNG_FOLDER)):
        for source in real:
            if _exists(target) and target.resolve() in (source, *source.parents):
                raise RequestError(
                    f"The export would overwrite {source}, the source of this result.",
                    hint="Choose another folder.",
                )
    for name in names:
        foreign = _find_foreign(out_dir / name)
        if foreign is not None:
            raise StoreError(
                f"{out_dir} contains {foreign.relative_to(out_dir)}, which is not from an export (or has "
                "been changed since) and would be overwritten.",
                hint="Choose a new or empty folder.",
            )


def find_stale(out_dir: Path, new: Path, written: Iterable[str]) -> list[str]:
    """Files of an earlier export of other masks, which this one does not write again. `new` is the folder
    that contains the new files."""
    index = out_dir / INDEX
    if not index.is_file() or filecmp.cmp(index, new / INDEX, shallow=False):
        return []  # of the same masks, what was written is still right
    kept = set(written)
    stale = [name for name in FILES if name not in kept]
    if PNG_FOLDER not in kept:
        stale += [f"{PNG_FOLDER}/{entry.name}" for entry in _iter_folder(out_dir / PNG_FOLDER)]
    return stale


def remove_empty_folder(out_dir: Path) -> None:
    """Remove the folder of PNGs if nothing is left in it."""
    folder = out_dir / PNG_FOLDER
    if not folder.is_symlink() and folder.is_dir() and not any(_iter_folder(folder)):
        folder.rmdir()


def name_files(kinds: Iterable[str], *, is_video: bool) -> Mapping[str, str]:
    """Kind → file, in the order in which they are written. An overlay has a legend beside it."""
    names = {"png": PNG_FOLDER, "npz": NPZ, "coco": COCO, "polygons": POLYGONS, "json": INDEX}
    chosen = {}
    for kind in kinds:
        chosen[kind] = OVERLAYS[is_video] if kind == "overlay" else names[kind]
        if kind == "overlay":
            chosen["legend"] = LEGEND
    return chosen


def _require_folder(out_dir: Path) -> None:
    if _exists(out_dir) and not out_dir.is_dir():
        raise StoreError(
            f"{out_dir} is a file, where a folder is to be written.", hint="Choose another folder."
        )


def _exists(target: Path) -> bool:
    """StoreError if the disk does not allow such a name."""
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(
            f"{target.parent} cannot be a folder: {error.strerror or error}.", hint="Choose another folder."
        ) from error
    return True


def _find_foreign(target: Path) -> Path | None:
    """What would be lost if an export wrote to `target`."""
    if not _exists(target) or is_own(target, target.name):
        return None
    if target.name == PNG_FOLDER:
        return next((entry for entry in _iter_folder(target) if not is_own_file(entry)), target)
    return target


def _iter_folder(folder: Path) -> Iterator[Path]:
    """Its entries in order; none if it is not a folder, or a link to one."""
    if folder.is_dir() and not folder.is_symlink():
        yield from sorted(folder.iterdir(), key=lambda entry: os.fsencode(entry.name))
