"""One part of the check: its options, and its steps, whose results are printed and saved at once."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sa2va_tools.model.device.placement import choose_device

_LOGGER = logging.getLogger(__name__)


class Part:
    """A part runs in a process of its own and writes `<out>/<name>.json`. A step that fails does not stop the
    others."""

    def __init__(self, name: str, out: Path, device: torch.device, *, quick: bool, rehearse: bool) -> None:
        self.device, self.quick, self.rehearse = device, quick, rehearse
        self._began = time.monotonic()
        self._file = out / f"{name}.json"
        self._results: dict[str, Any] = {}
        self._failed: list[str] = []
        out.mkdir(parents=True, exist_ok=True)

    @classmethod
    def from_command_line(cls, name: str, description: str | None) -> Part:
        """Parse `--out DIR --device cuda --quick --rehearse`."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--out", type=Path, default=Path())
        parser.add_argument("--device", default="cuda")
        parser.add_argument("--quick", action="store_true", help="leave out what takes long")
        parser.add_argument("--rehearse", action="store_true", help="on the CPU, at tiny sizes")
        arguments = parser.parse_args()
        device = torch.device("cpu") if arguments.rehearse else choose_device(arguments.device)
        return cls(name, arguments.out, device, quick=arguments.quick, rehearse=arguments.rehearse)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def step(self, name: str, work: Callable[[], object]) -> None:
        """Run one step. Its result has to be JSON; if it fails, the traceback is printed and the part fails
        in the end."""
        try:
            result = work()
        except Exception as error:
            _LOGGER.exception("%s failed", name)
            self._failed.append(name)
            result = {"error": f"{type(error).__name__}: {error}"[:500]}
        self._results[name] = result
        self._print(name, result)
        self._file.write_text(json.dumps(self._results, indent=1) + "\n", encoding="utf-8")
        if self.on_gpu:
            torch.cuda.empty_cache()

    def finish(self) -> int:
        """The exit status: 1 if a step failed."""
        if self._failed:
            print(f"failed: {', '.join(self._failed)}", flush=True)
        return int(bool(self._failed))

    def _print(self, name: str, result: object) -> None:
        rows = result if isinstance(result, list) else [result]
        for row in rows:
            print(f"[{time.monotonic() - self._began:6.1f} s] {name}: {json.dumps(row)}", flush=True)
