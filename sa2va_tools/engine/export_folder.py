"""What an export may replace: files of earlier exports, nothing else.

Most files show by their content that an export wrote them. Overlays and PNGs do not, so they count as ours
only next to a `masks.json` of ours.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from sa2va_tools.errors import RequestError, StoreError
from sa2va_tools.masks.export import MASK_PNG, POLYGON_FORMAT, is_masks_export
from sa2va_tools.media.media import Media

INDEX = "masks.json"
PNG_FOLDER = "masks"
OVERLAYS = ("overlay.png", "overlay.mp4")
COCO_CONTRIBUTOR = "sa2va-tools"
NPZ_ARRAYS = ("masks", "frame_indices", "labels")
_FIRST_BYTES = {
    "coco.json": f'{{"info": {{"contributor": "{COCO_CONTRIBUTOR}"',
    "polygons.json": f'{{"format":"{POLYGON_FORMAT}"',
}


def require_free(out_dir: Path, names: Iterable[str], media: Media) -> None:
    """StoreError if one of these is not from an export, RequestError if it is or contains the media."""
    if "\0" in str(out_dir):
        raise RequestError("A folder name cannot contain a NUL character.", hint="Choose another folder.")
    has_index = is_masks_export(out_dir / INDEX)
    # Once there is a masks.json, an overlay of someone else would pass for ours.
    checked = list(names) if has_index else [*OVERLAYS, *names]
    source = None if media.path is None else media.path.resolve()
    for name in checked:
        target = out_dir / name
        if source and _exists(target) and target.resolve() in (source, *source.parents):
            raise RequestError(
                f"The export would overwrite {source}, the source of these masks.",
                hint="Choose another folder.",
            )
        foreign = _find_foreign(target, has_index=has_index)
        if foreign is not None:
            raise StoreError(
                f"{out_dir} contains {foreign.relative_to(out_dir)}, which is not from an export and "
                "would be overwritten.",
                hint="Choose a new or empty folder.",
            )


def _exists(target: Path) -> bool:
    """StoreError if the disk does not allow such a name."""
    try:
        return target.is_symlink() or target.exists()
    except OSError as error:
        raise StoreError(
            f"{target.parent} cannot be a folder: {error.strerror or error}.", hint="Choose another folder."
        ) from error


def _find_foreign(target: Path, *, has_index: bool) -> Path | None:
    """What would be lost if an export wrote to `target`."""
    if not _exists(target):
        return None
    if target.is_dir() != (target.name == PNG_FOLDER):
        return target
    if target.name == PNG_FOLDER:
        entries = sorted(target.iterdir())
        return next((each for each in entries if not (has_index and MASK_PNG.fullmatch(each.name))), None)
    return None if _is_own_file(target, has_index=has_index) else target


def _is_own_file(file: Path, *, has_index: bool) -> bool:
    if file.name in (INDEX, *OVERLAYS):
        return has_index
    try:
        if file.suffix == ".npz":
            with zipfile.ZipFile(file) as archive:
                return sorted(archive.namelist()) == sorted(f"{name}.npy" for name in NPZ_ARRAYS)
        start = _FIRST_BYTES[file.name].encode()
        with file.open("rb") as stream:
            return stream.read(len(start)) == start
    except (OSError, zipfile.BadZipFile):
        return False
