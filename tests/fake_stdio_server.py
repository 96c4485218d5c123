"""Started by tests: the MCP server on stdio, over a fake engine that prints to stdout.

Usage: fake_stdio_server.py ROOT
"""

import os
import sys
import time
from pathlib import Path

from sa2va_server.mcp.server import serve_stdio
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.testing import FakeEngine


class NoisyEngine(FakeEngine):
    """Work on an expression with `endless` ends when it is cancelled, with `held` also once the file
    `release` is there. Each piece of work that begins is a line of the file `worked`."""

    def __init__(self, root: Path) -> None:
        super().__init__(access=AccessPolicy((root,)), reuse_results=True)
        self._root = root

    def describe(self, *args, **options):
        print("noise into Python's buffer", end="")  # noqa: T201
        os.write(1, b"noise into the descriptor\n")
        return super().describe(*args, **options)

    def _drift(self, recorder, label, span=None):
        with (self._root / "worked").open("a", encoding="utf-8") as file:
            file.write(f"{label}\n")
        while "endless" in label or ("held" in label and not (self._root / "release").exists()):
            recorder.run.raise_if_cancelled()
            recorder.run.report("propagate", 1, 600, "frame 1 of 600")
            time.sleep(0.002)
        return super()._drift(recorder, label, span)


def main() -> None:
    root = Path(sys.argv[1])
    assert "torch" not in sys.modules
    serve_stdio(lambda: NoisyEngine(root), roots=[root])


main()
