"""`sa2va view`: masks, numbered and outlined, as one picture file. Needs no model."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sa2va_server.cli.export import is_media
from sa2va_server.cli.flags import ReadingFlags, ViewFlags
from sa2va_server.cli.reading import open_as_given
from sa2va_server.cli.session import Session
from sa2va_server.cli.text import format_media, format_warnings
from sa2va_tools import atomic
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.engine.results import ViewResult
from sa2va_tools.errors import RequestError
from sa2va_tools.media.marks import is_own_file, mark_bytes
from sa2va_tools.printable import make_printable
from sa2va_tools.run import Run
from sa2va_tools.store.handles import looks_like_handle
from sa2va_tools.tools.reporting import media_out

MAX_BYTES = 50_000_000
"""Of a picture for a person. A picture for an agent has to be much smaller."""
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_QUALITY = 92


def view_command(session: Session, handles: Sequence[str], options: ViewFlags, reading: ReadingFlags) -> None:
    """Write one picture. Without `--out`, its name follows from the first handle or file, in the working
    folder. RequestError if it would overwrite what is viewed, or add a frame to it."""
    path = options.out or Path(_name_picture(handles[0]))
    _find_format(path)
    # Unlike os.path's, Path.resolve raises for a link that leads back to itself.
    sources = [Path(os.path.realpath(name)) for name in handles if not looks_like_handle(name)]
    real = Path(os.path.realpath(path))
    if real in sources or (path.exists() and set(sources) & set(real.parents)):
        raise _overwrites_source(path)
    if real.parent in sources:
        raise _becomes_frame(path)
    with session.open_engine() as engine, session.open_run() as run:
        given = [str(open_as_given(engine, handle, reading, run)) for handle in handles]
        result = engine.view(
            given,
            frame_index=_choose_frame(engine, given[0], options, run),
            max_frames=options.max_frames,
            max_side=options.max_side,
            max_bytes=MAX_BYTES,
            crop=options.crop,
            run=run,
        )
        if is_media(engine, path, result.media.handle):
            raise _overwrites_source(path)
        if real.parent.name == result.media.name and is_media(engine, real.parent, result.media.handle):
            raise _becomes_frame(path)
    write_picture(path, result.image, result.mime_type)
    _show(session, result, path)


def _choose_frame(engine: Engine, media: str, options: ViewFlags, run: Run) -> int | None:
    """The frame of `--frame` or `--time`; None for a sheet. RequestError for both."""
    if options.time is None:
        return options.frame
    if options.frame is not None:
        raise RequestError("Both --frame and --time are given.", hint="Give only one of them.")
    return engine.find_frame(media, options.time, run=run)


def write_picture(path: Path, data: bytes, mime_type: str) -> None:
    """Write an encoded picture, converted if its format is not that of the suffix; whole or not at all.
    RequestError for an unknown suffix, StoreError if the disk refuses or something else has the name."""
    kind = _find_format(path)
    if mime_type != f"image/{kind.lower()}":
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(data)) as picture:
            picture.save(buffer, kind, quality=_QUALITY)
        data = buffer.getvalue()
    atomic.write_bytes(path, mark_bytes(data, path.suffix), is_own=is_own_file)


def require_own_picture(path: Path) -> None:
    """StoreError if something has this name that is not a picture of ours."""
    if (path.exists() or path.is_symlink()) and not is_own_file(path):
        raise atomic.make_foreign_error(path)


def _find_format(path: Path) -> str:
    if path.is_dir():
        raise RequestError(f"{path} is a folder.", hint=f"Give --out a file in it: {path / 'view.png'}.")
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise RequestError(
            f"The name {path.name} has no known image suffix.",
            hint="Use a name that ends with .png, .jpg or .webp.",
        ) from None


def _show(session: Session, result: ViewResult, path: Path) -> None:
    media = media_out(result.media)
    if not session.as_json:
        legend = (f"  {number}  {make_printable(label)}  {handle}" for number, handle, label in result.legend)
        written = f"Written: {make_printable(str(path))}"
        session.print_lines([format_media(media), *legend, written, *format_warnings(result.warnings)])
        return
    session.print_json(
        {
            "file": str(path),
            "size_wh": list(result.size_wh),
            "legend": [{"number": n, "handle": handle, "label": label} for n, handle, label in result.legend],
            "frames": list(result.frames),
            "scale": result.scale,
            "shown_wh": list(result.shown_wh),
            "origins_xy": [list(origin) for origin in result.origins_xy],
            "media": media.model_dump(mode="json", exclude_none=True),
            "warnings": list(result.warnings),
        }
    )


def _overwrites_source(path: Path) -> RequestError:
    return RequestError(f"{path} is the input.", hint="Choose another output file with --out.")


def _becomes_frame(path: Path) -> RequestError:
    return RequestError(
        f"{path.parent} contains the frames of this video; {path.name} would become one of them.",
        hint="Choose another folder with --out.",
    )


def _name_picture(name: str) -> str:
    """`mask-….png` for a handle, `clip-view.png` for a file."""
    stem = name.replace(":", "-") if looks_like_handle(name) else f"{Path(os.path.realpath(name)).stem}-view"
    return f"{stem}.png"
