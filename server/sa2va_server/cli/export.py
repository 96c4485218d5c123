"""`--out DIR`: the folder is tried before the work begins, and `masks.json` is written even if nothing was
found. What may be replaced in it is decided by the engine."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sa2va_tools.engine.exporting import DEFAULT_FORMATS
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import MediaError, RequestError, StoreError
from sa2va_tools.run import Run


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


def require_no_file(out: Path) -> None:
    """RequestError if a file has the name of the folder."""
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file, not a folder.", hint="Give --out a folder.")


def _make_folder(out: Path, made: list[Path]) -> None:
    """Make and try the folder; `made` gets those that did not exist, innermost first."""
    try:
        require_no_file(out)
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
    engine: Engine, handles: Sequence[str], out: Path, formats: Sequence[str] | None, run: Run
) -> dict[str, str]:
    """Write the files of these results and return kind → path. StoreError if the disk refuses or a file of
    someone else would be lost, RequestError if the image or video itself would be, CancelledError."""
    wanted = dict.fromkeys(("json", *(formats or DEFAULT_FORMATS)))
    return engine.export(handles, out, formats=list(wanted), run=run)


def is_media(engine: Engine, file: Path, handle: str) -> bool:
    """Whether the file or folder is the image or video of this `media:` handle."""
    try:
        return file.exists() and engine.find_media(file).handle == handle
    except MediaError:
        return False
