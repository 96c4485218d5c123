"""`sa2va demo`: tools on a small clip, with all files in one folder."""

from __future__ import annotations

import contextlib
import filecmp
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa2va_server.cli.demo_scene import EXPRESSIONS, write_demo_clip
from sa2va_server.cli.export import prepare_folder
from sa2va_server.cli.session import Session
from sa2va_server.cli.text import format_files, format_result
from sa2va_server.cli.view import MAX_BYTES, require_own_picture, write_picture
from sa2va_tools import atomic
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.run import Run
from sa2va_tools.tools.catalogue import find_tool

CLIP, SHEET = "clip.mp4", "sheet.png"


def run_demo(session: Session, out: Path) -> None:
    """Write clip, overlay, masks and a picture into `out`, and print what was found and where it is."""
    start_s = time.monotonic()
    with prepare_folder(out):
        require_own_picture(out / SHEET)
        with _write_clip(out) as clip, session.open_engine() as engine, session.open_run() as run:
            document = _Demo(session, engine, run, str(clip)).show(out)
    if session.as_json:
        session.print_json(document)
        return
    seconds = time.monotonic() - start_s
    session.print_lines(["", *format_files(document["files"]), f"Done in {seconds:.1f} s."])


@contextlib.contextmanager
def _write_clip(out: Path) -> Iterator[Path]:
    """Write the clip, which is always the same; a new one is removed if the block raises. StoreError if
    another one has its name."""

    def is_same(path: Path, name: str) -> bool:
        return filecmp.cmp(path, new / name, shallow=False)

    clip = out / CLIP
    is_new = not clip.exists()
    with atomic.update_folder(out, is_own=is_same) as new:
        write_demo_clip(new / CLIP)
    try:
        yield clip
    except BaseException:
        if is_new:
            clip.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class _Demo:
    """The calls of the demo. Each is printed as soon as it returns, and each warning once."""

    session: Session
    engine: Engine
    run: Run
    clip: str
    warnings: set[str] = field(default_factory=set)

    def show(self, out: Path) -> dict[str, Any]:
        """Make the calls; returns what `--json` prints."""
        segmented = self._call("segment_by_text", media=self.clip, expressions=list(EXPRESSIONS))
        masks = segmented["masks"]
        found = next((mask["handle"] for mask in masks if mask["found"] and mask.get("handle")), None)
        return {
            "segment": segmented,
            "ground": self._call("ground_conversation", media=self.clip),
            "describe": self._call("describe", media=self.clip),
            "caption": found and self._call("caption_region", regions=[{"mask": found}]),
            "files": {"clip": self.clip} | (self._write(segmented["handle"], out) if found else {}),
        }

    def _call(self, name: str, **raw: Any) -> dict[str, Any]:
        tool = find_tool(name)
        output = tool.run(self.engine, tool.parse(raw), self.run)
        if not self.session.as_json:
            lines = [line for line in format_result(output.structured) if line not in self.warnings]
            self.warnings.update(line for line in lines if line.startswith("Warning:"))
            words = " ".join(json.dumps(value) for key, value in raw.items() if key != "media")
            self.session.print_lines(["", f"{name} {words}".rstrip(), *lines])
        return output.as_dict() or {}

    def _write(self, answer: str, out: Path) -> dict[str, str]:
        files = self.engine.export(answer, out, run=self.run)
        picture = self.engine.view(answer, max_bytes=MAX_BYTES, run=self.run)
        sheet = out / SHEET
        write_picture(sheet, picture.image, picture.mime_type)
        return files | {"sheet": str(sheet)}
