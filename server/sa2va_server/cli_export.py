"""`--out DIR`: a folder that is made before the work, and then holds what this run found, or that it
found nothing. Files of an earlier run that would pass for this one's are removed.

A `masks.json` of nothing found: as `sa2va_tools.masks.export` describes, with objects
`{"label": str, "found": false, "reason": str}`.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from sa2va_tools import atomic
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import MediaError, RequestError, StoreError
from sa2va_tools.masks.export import FORMAT, MASK_PNG, is_ours
from sa2va_tools.progress import CancelToken, ProgressCallback
from sa2va_tools.tools.outputs import GroundResult, MasksResult

_OVERLAYS = ("overlay.mp4", "overlay.png")


@contextlib.contextmanager
def output_folder(out: Path | None) -> Iterator[None]:
    """The folder exists and can be written to before the block runs; what was made of it goes again
    if it is empty afterwards. RequestError where a file stands, StoreError where the disk refuses."""
    if out is None:
        yield
        return
    made: list[Path] = []
    try:
        _make(out, made)
        yield
    finally:
        with contextlib.suppress(OSError):  # a folder that holds something stays
            for folder in made:
                folder.rmdir()


def _make(out: Path, made: list[Path]) -> None:
    """Make and try the folder; `made` gets those that were missing, innermost first."""
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
    engine: Engine,
    result: MasksResult | GroundResult,
    out: Path,
    on_progress: ProgressCallback,
    cancel: CancelToken,
) -> dict[str, str]:
    """Kinds and paths of the files of this result. StoreError where the disk refuses, CancelledError."""
    was_ours = is_ours(out / "masks.json")
    if _has_masks(engine, result):
        files = dict(engine.export(result.handle, out, on_progress=on_progress, cancel=cancel).files)
    else:
        path = out / "masks.json"
        if path.exists() and not was_ours:
            raise StoreError(
                f"{out} holds {path.name}, which no export wrote; it would be lost.",
                hint="Choose a new or empty folder.",
            )
        if was_ours:
            _check_source(engine, result, out)
        atomic.write_bytes(path, _nothing_found(engine, result).encode("utf-8", errors="replace"))
        files = {"masks_json": str(path)}
    if was_ours:
        _remove_stale(out, {Path(path).name for path in files.values()})
    return files


def _has_masks(engine: Engine, result: MasksResult | GroundResult) -> bool:
    if any(mask.handle for mask in result.masks):
        return True
    # The list is capped: beyond its end only the store knows.
    return result.truncated and bool(json.loads(engine.masks_json(result.handle))["objects"])


def _nothing_found(engine: Engine, result: MasksResult | GroundResult) -> str:
    media = engine.media_of(result.media.handle)
    document = {
        "format": FORMAT,
        "media": {
            "name": media.name,
            "size_wh": list(media.size_wh),
            "frame_count": media.frame_count,
            "fps": media.fps,
        },
        "objects": [
            {"label": mask.label, "found": False, "reason": mask.reason or ""} for mask in result.masks
        ],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _check_source(engine: Engine, result: MasksResult | GroundResult, out: Path) -> None:
    """RequestError where what was asked about is itself one of the files that an earlier export left."""
    left = [*(out / name for name in _OVERLAYS), out / "masks" / result.media.name]
    for file in left:
        if is_that_media(engine, file, result.media.handle):
            raise RequestError(
                f"{file} is the source of this result; it would be lost.", hint="Choose another folder."
            )


def is_that_media(engine: Engine, file: Path, handle: str) -> bool:
    """Whether the file holds the image or video that `handle` stands for. False for a folder, or where
    nothing is there."""
    try:
        return file.is_file() and engine.media_of(file).handle == handle
    except MediaError:
        return False


def _remove_stale(out: Path, keep: Collection[str]) -> None:
    """Remove what an earlier export left and this one did not write anew. Other files stay."""
    folder = out / "masks"
    stale = [out / name for name in _OVERLAYS if name not in keep]
    try:
        if "masks" not in keep and folder.is_dir() and not folder.is_symlink():
            stale += [file for file in folder.iterdir() if MASK_PNG.fullmatch(file.name)]
        for file in stale:
            file.unlink(missing_ok=True)
        if "masks" not in keep:
            with contextlib.suppress(OSError):  # missing, or it holds files of somebody else
                folder.rmdir()
    except OSError as error:
        raise StoreError(
            f"Files of an earlier run are left in {out}: {error.strerror or error}.",
            hint="Remove its overlay and masks, or give --out another folder.",
        ) from error
