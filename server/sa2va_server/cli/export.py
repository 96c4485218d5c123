"""`--out DIR`: after each run, the exported files are exactly that run's, even if nothing was found.

`masks.json` is always written. It marks the folder as one of ours: a later run replaces what this one wrote,
and removes the files that it does not write again. If nothing was found, `masks.json` is as
`sa2va_tools.masks.export` describes, with objects `{"label": str, "found": false, "reason": str}`.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from sa2va_tools import atomic
from sa2va_tools.engine.exporting import DEFAULT_FORMATS, media_info
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import MediaError, RequestError, StoreError
from sa2va_tools.masks.export import FORMAT, MASK_PNG, is_masks_export
from sa2va_tools.run import Run
from sa2va_tools.tools.outputs import GroundResult, MasksResult

_FILES = ("masks.json", "overlay.mp4", "overlay.png", "masks.npz", "coco.json", "polygons.json")
"""What an export may write, besides the folder `masks`."""


@contextlib.contextmanager
def prepare_folder(out: Path | None) -> Iterator[None]:
    """Make the folder and try to write into it before the block runs; if the folder was made for nothing,
    remove it afterwards. RequestError if a file has its name, StoreError if the disk refuses."""
    if out is None:
        yield
        return
    made: list[Path] = []
    try:
        _make_folder(out, made)
        yield
    finally:
        with contextlib.suppress(OSError):  # a folder that holds something stays
            for folder in made:
                folder.rmdir()


def _make_folder(out: Path, made: list[Path]) -> None:
    """Make and try the folder; `made` gets those that did not exist, innermost first."""
    try:
        if out.exists() and not out.is_dir():
            raise RequestError(f"{out} is a file, not a folder.", hint="Give --out a folder.")
        made += [folder for folder in (out, *out.parents) if not folder.exists()]
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise StoreError(
            f"Cannot write into the folder {out}: {error.strerror or error}.",
            hint="Give --out another folder.",
        ) from error


def write_masks(
    engine: Engine, result: MasksResult | GroundResult, out: Path, formats: Sequence[str] | None, run: Run
) -> dict[str, str]:
    """Write the files of this result and return kind → path. StoreError if the disk refuses or a file of
    someone else would be lost, RequestError if the result's own image or video would be, CancelledError."""
    index = out / "masks.json"
    was_ours = is_masks_export(index)
    if was_ours:
        _protect_source(engine, result, out)
    else:
        _protect_other_files(out)
    if _has_masks(engine, result):
        wanted = dict.fromkeys(("json", *(formats or DEFAULT_FORMATS)))
        files = engine.export(result.handle, out, formats=list(wanted), run=run)
    else:
        atomic.write_bytes(index, _describe_nothing(engine, result).encode("utf-8", errors="replace"))
        files = {"json": str(index)}
    if was_ours:
        _remove_stale(out, {Path(path).name for path in files.values()})
    return files


def _has_masks(engine: Engine, result: MasksResult | GroundResult) -> bool:
    if any(mask.handle for mask in result.masks):
        return True
    # The list of a long result is cut off; only the store knows the rest.
    return result.truncated and bool(json.loads(engine.masks_json(result.handle))["objects"])


def _describe_nothing(engine: Engine, result: MasksResult | GroundResult) -> str:
    objects = [{"label": mask.label, "found": False, "reason": mask.reason or ""} for mask in result.masks]
    media = media_info(engine.find_media(result.media.handle))
    document = {"format": FORMAT, "media": media, "objects": objects}
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _protect_other_files(out: Path) -> None:
    """StoreError if a folder without our masks.json contains what would pass for ours once that is there."""
    folder = out / "masks"
    entries = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    other = next((path for path in (*(out / name for name in _FILES), *entries) if path.exists()), None)
    if other is not None:
        raise StoreError(
            f"{out} contains {other.relative_to(out)}, which is not from an export and would be overwritten.",
            hint="Choose a new or empty folder.",
        )


def _protect_source(engine: Engine, result: MasksResult | GroundResult, out: Path) -> None:
    """RequestError if the image or video of this result is what an earlier export wrote into this folder."""
    name = result.media.name
    own = [out / name] if name in (*_FILES, "masks") else []
    for file in (*own, out / "masks" / name):
        if is_media(engine, file, result.media.handle):
            raise RequestError(
                f"The export would overwrite {file}, the source of this result.",
                hint="Choose another folder.",
            )


def is_media(engine: Engine, file: Path, handle: str) -> bool:
    """Whether the file or folder is the image or video of this `media:` handle."""
    try:
        return file.exists() and engine.find_media(file).handle == handle
    except MediaError:
        return False


def _remove_stale(out: Path, written: Collection[str]) -> None:
    """Remove what an earlier export wrote and this one did not. Other files stay."""
    folder = out / "masks"
    stale = [out / name for name in _FILES if name not in written]
    try:
        if folder.name not in written and folder.is_dir() and not folder.is_symlink():
            stale += [file for file in folder.iterdir() if MASK_PNG.fullmatch(file.name)]
        for file in stale:
            file.unlink(missing_ok=True)
        if folder.name not in written:
            with contextlib.suppress(OSError):  # it does not exist, or holds files of someone else
                folder.rmdir()
    except OSError as error:
        raise StoreError(
            f"Files of an earlier run could not be removed from {out}: {error.strerror or error}.",
            hint="Remove them yourself, or give --out another folder.",
        ) from error
