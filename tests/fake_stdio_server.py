"""Started by tests: the MCP server on stdio over a fake engine that prints where it must not.

Usage: fake_stdio_server.py ROOT
"""

import os
import sys
from pathlib import Path

from sa2va_server.mcp_server import serve_stdio
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.progress import Progress
from sa2va_tools.testing import FakeEngine


class NoisyEngine(FakeEngine):
    """Its `segment` works for ever on the word `endless`."""

    def describe(self, *args, **options):
        print("noise into Python's buffer", end="")  # noqa: T201
        os.write(1, b"noise into the descriptor\n")
        return super().describe(*args, **options)

    def segment(self, media, expressions, *, on_progress, cancel, **options):
        while "endless" in expressions:
            cancel.raise_if_cancelled()
            on_progress(Progress("propagate", 1, 600))
        return super().segment(media, expressions, on_progress=on_progress, cancel=cancel, **options)


def main() -> None:
    root = Path(sys.argv[1])
    assert "torch" not in sys.modules
    serve_stdio(lambda: NoisyEngine(access=AccessPolicy((root,))), roots=[root])


main()
