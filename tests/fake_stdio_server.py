"""Started by tests: the MCP server on stdio, over a fake engine that prints to stdout.

Usage: fake_stdio_server.py ROOT
"""

import os
import sys
from pathlib import Path

from sa2va_server.mcp.server import serve_stdio
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.testing import FakeEngine


class NoisyEngine(FakeEngine):
    """`segment` never ends if an expression is `endless`."""

    def describe(self, *args, **options):
        print("noise into Python's buffer", end="")  # noqa: T201
        os.write(1, b"noise into the descriptor\n")
        return super().describe(*args, **options)

    def segment(self, media, expressions, options=None, *, run, **fields):
        while "endless" in expressions:
            run.raise_if_cancelled()
            run.report("propagate", 1, 600)
        return super().segment(media, expressions, options, run=run, **fields)


def main() -> None:
    root = Path(sys.argv[1])
    assert "torch" not in sys.modules
    serve_stdio(lambda: NoisyEngine(access=AccessPolicy((root,))), roots=[root])


main()
