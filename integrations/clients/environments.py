"""An environment for each client, with the packages of its file of requirements and none of ours."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from clients.registry import Client


def install(client: Client, folder: Path) -> Path:
    """The interpreter of the client's environment, which is made again when the requirements have changed."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "requirements.txt"
    wanted = client.requirements.read_text(encoding="utf-8")
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"{client.name}: installing into {folder}", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-cache-dir"]
    subprocess.run([*pip, "-r", str(client.requirements)], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def read_version(client: Client, folder: Path) -> str:
    """The installed version of the client and of its MCP SDK."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    code = (
        f"from importlib.metadata import version as v; print(v({client.package!r}), '(mcp', v('mcp') + ')')"
    )
    return subprocess.run(
        [str(python), "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
