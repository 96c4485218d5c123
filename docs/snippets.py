"""Updates README.md: the code of the examples that it shows, and the real output of the quickstart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from sa2va_server.cli.demo_scene import write_demo_clip

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
_SNIPPET = re.compile(r"(<!-- snippet: (\S+) -->\n```python\n).*?(```)", re.DOTALL)
_OUTPUT = re.compile(r"(<!-- snippet: examples/quickstart.py -->.*?```text\n).*?(```)", re.DOTALL)


def insert_snippets(page: str) -> str:
    """The page with the text of its file in every marked block."""
    return _SNIPPET.sub(lambda m: m[1] + (ROOT / m[2]).read_text(encoding="utf-8") + m[3], page)


def quickstart_output() -> str:
    """What the quickstart prints after `sa2va demo`."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sa2va-demo").mkdir()
        write_demo_clip(Path(folder) / "sa2va-demo" / "clip.mp4")
        command = [sys.executable, str(ROOT / "examples" / "quickstart.py")]
        environment = {**os.environ, "SA2VA_STORE_DIR": folder}
        done = subprocess.run(
            command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout


if __name__ == "__main__":
    page = insert_snippets(PAGE.read_text(encoding="utf-8"))
    output = quickstart_output()
    PAGE.write_text(_OUTPUT.sub(lambda m: m[1] + output + m[2], page), encoding="utf-8")
