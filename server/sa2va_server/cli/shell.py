"""Commands that people can copy into their shell."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence

from sa2va_tools.printable import make_printable


def quote_command(words: Sequence[str]) -> str:
    """The command line of these words for the system's shell, on one line."""
    line = subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
    return make_printable(line)
