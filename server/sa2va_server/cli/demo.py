"""`sa2va demo`: tools on a small clip, with all files in one folder."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa2va_server.cli.demo_scene import EXPRESSIONS, write_demo_clip
from sa2va_server.cli.session import Session
from sa2va_server.cli.text import format_files, format_result
from sa2va_server.cli.view import MAX_BYTES, write_picture
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import StoreError
from sa2va_tools.run import Run
from sa2va_tools.tools.catalogue import find_tool


def run_demo(session: Session, out: Path) -> None:
    """Write clip, overlay, masks and a picture into `out`, and print what was found and where it is."""
    start_s = time.monotonic()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"Cannot create the folder {out}: {error.strerror}.", hint="Give --out another folder."
        ) from error
    clip = write_demo_clip(out / "clip.mp4")
    with session.open_engine() as engine, session.open_run() as run:
        document = _Demo(session, engine, run, str(clip)).show(out)
    if session.as_json:
        session.print_json(document)
        return
    seconds = time.monotonic() - start_s
    session.print_lines(["", *format_files(document["files"]), f"Done in {seconds:.1f} s."])


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
        sheet = out / "sheet.png"
        write_picture(sheet, picture.image, picture.mime_type)
        return files | {"sheet": str(sheet)}
