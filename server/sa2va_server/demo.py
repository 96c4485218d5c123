"""`sa2va demo`: the main job on a small clip, whatever comes of it, into one folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sa2va_server.cli_commands import VIEW_MAX_BYTES, say
from sa2va_server.cli_output import caption_lines, describe_lines, file_lines, ground_lines, masks_lines
from sa2va_server.cli_picture import write_picture
from sa2va_server.cli_session import Session
from sa2va_server.demo_scene import EXPRESSIONS, write_demo_clip
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import StoreError
from sa2va_tools.progress import CancelToken, ProgressCallback
from sa2va_tools.tools.base import ToolOutput
from sa2va_tools.tools.catalogue import tool_named
from sa2va_tools.tools.outputs import MasksResult

Call = Callable[..., ToolOutput]


def run_demo(session: Session, out: Path) -> None:
    """Write clip, overlay, masks and a picture into `out`; say what was found and where it is."""
    began_s = time.monotonic()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"Cannot make the folder {out}: {error.strerror}.", hint="Give --out another folder."
        ) from error
    clip = write_demo_clip(out / "clip.mp4")
    with session.open_engine() as engine, session.working() as (on_progress, cancel):
        document = _tell(session, engine, str(clip), out, on_progress, cancel)
    if session.as_json:
        session.emit_json(document)
        return
    say(session, ["", *file_lines(document["files"]), f"Done in {time.monotonic() - began_s:.1f} s."])


def _tell(
    session: Session,
    engine: Engine,
    clip: str,
    out: Path,
    on_progress: ProgressCallback,
    cancel: CancelToken,
) -> dict[str, Any]:
    """The calls of the demo, each shown as it returns; a warning is shown once."""

    said: set[str] = set()

    def call(name: str, lines: Callable[[Any], list[str]], **raw: Any) -> ToolOutput:
        tool = tool_named(name)
        output = tool.run(engine, tool.parse(raw), on_progress, cancel)
        if not session.as_json:
            shown = [line for line in lines(output.structured) if line not in said]
            said.update(line for line in shown if line.startswith("Warning:"))
            say(session, ["", f"{name} {_words(raw)}".rstrip(), *shown])
        return output

    segmented = call("segment_by_text", masks_lines, media=clip, expressions=list(EXPRESSIONS))
    grounded = call("ground_conversation", ground_lines, media=clip)
    described = call("describe", describe_lines, media=clip)
    captioned = _caption(call, segmented)
    files = {"clip": clip} | _write(engine, segmented, out, on_progress, cancel)
    return {
        "segment": segmented.as_dict(),
        "ground": grounded.as_dict(),
        "describe": described.as_dict(),
        "caption": None if captioned is None else captioned.as_dict(),
        "files": files,
    }


def _caption(call: Call, segmented: ToolOutput) -> ToolOutput | None:
    """What is at the first mask that was found; None when none was."""
    handles = _mask_handles(segmented)
    return call("caption_region", caption_lines, regions=[{"mask": handles[0]}]) if handles else None


def _write(
    engine: Engine, segmented: ToolOutput, out: Path, on_progress: ProgressCallback, cancel: CancelToken
) -> dict[str, str]:
    result = segmented.structured
    if not isinstance(result, MasksResult) or not _mask_handles(segmented):
        return {}
    exported = engine.export(result.handle, out, on_progress=on_progress, cancel=cancel)
    picture = engine.view(result.handle, max_bytes=VIEW_MAX_BYTES)
    sheet = out / "sheet.png"
    write_picture(sheet, picture.image, picture.mime_type)
    return dict(exported.files) | {"sheet": str(sheet)}


def _mask_handles(output: ToolOutput) -> list[str]:
    result = output.structured
    masks = result.masks if isinstance(result, MasksResult) else []
    return [mask.handle for mask in masks if mask.found and mask.handle]


def _words(raw: dict[str, Any]) -> str:
    """The call's own arguments, without the media that they all share."""
    return " ".join(json.dumps(value) for name, value in raw.items() if name != "media")
