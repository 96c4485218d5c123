"""Everything that is to be checked on a GPU, in one go: is it right, and how fast is it?

Each part runs in a process of its own, so that one that fails or hangs does not stop the others. Parts that
are not timed run side by side. The folder gets a log of each part, and results.json with all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT


@dataclass(frozen=True, slots=True)
class PartPlan:
    """A module of this package; `limit_s` ends one that hangs."""

    name: str
    limit_s: float
    timed: bool
    """Runs alone on the machine."""


PARTS = (
    PartPlan("gpu_tests", 200, timed=False),
    PartPlan("parity", 200, timed=False),
    PartPlan("launches", 200, timed=False),
    PartPlan("speed", 300, timed=True),
    PartPlan("words", 150, timed=True),
    PartPlan("training", 90, timed=True),
)
_REHEARSAL_LIMIT_S = 1200.0


class Check:
    """One run of some parts."""

    def __init__(self, out: Path, *, quick: bool, rehearse: bool) -> None:
        self.out, self.quick, self.rehearse = out, quick, rehearse
        self._began = time.monotonic()
        self._results: dict[str, Any] = {}
        self._lock = threading.Lock()

    def run(self, plans: Sequence[PartPlan]) -> list[str]:
        """Run the parts; the names of those that failed."""
        self.out.mkdir(parents=True, exist_ok=True)
        together = [plan for plan in plans if not plan.timed]
        # On a CPU they would only take each other's time.
        with ThreadPoolExecutor(max_workers=1 if self.rehearse else max(1, len(together))) as pool:
            statuses = dict(zip(together, pool.map(self._run_part, together), strict=True))
        statuses |= {plan: self._run_part(plan) for plan in plans if plan.timed}
        return [plan.name for plan in plans if statuses[plan]]

    def _run_part(self, plan: PartPlan) -> int:
        """The part's exit status; 124 if it ran too long."""
        self._print(f"{plan.name} begins")
        began = time.monotonic()
        log = self.out / f"{plan.name}.log"
        with tempfile.TemporaryDirectory() as folder, log.open("w", encoding="utf-8") as stream:
            limit_s = _REHEARSAL_LIMIT_S if self.rehearse else plan.limit_s
            try:
                status = subprocess.run(
                    [sys.executable, "-m", f"benchmarks.device.{plan.name}", *self._options(folder)],
                    cwd=ROOT,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    timeout=limit_s,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                status = 124
            file = Path(folder) / f"{plan.name}.json"
            figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self._save(plan.name, {"status": status, **figures})
        seconds = time.monotonic() - began
        outcome = "ended well" if status == 0 else f"FAILED with status {status}"
        self._print(f"{plan.name} {outcome} after {seconds:.0f} s:\n{log.read_text(encoding='utf-8')}")
        return status

    def _save(self, name: str, figures: dict[str, Any]) -> None:
        with self._lock:
            self._results[name] = figures
            text = json.dumps(self._results, indent=1) + "\n"
            (self.out / "results.json").write_text(text, encoding="utf-8")

    def _options(self, folder: str) -> list[str]:
        options = ["--out", folder]
        if self.quick:
            options.append("--quick")
        if self.rehearse:
            options.append("--rehearse")
        return options

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.0f} s] {text}", flush=True)


def main() -> int:
    """`python -m benchmarks.device --out DIR`; with REHEARSE=1 on the CPU, at tiny sizes. The exit status is
    1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "device-check")))
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--only", nargs="+", choices=[plan.name for plan in PARTS], help="only these parts")
    arguments = parser.parse_args()
    plans = [plan for plan in PARTS if arguments.only is None or plan.name in arguments.only]
    check = Check(arguments.out, quick=arguments.quick, rehearse=bool(os.environ.get("REHEARSE")))
    failed = check.run(plans)
    print(f"failed: {', '.join(failed)}" if failed else "everything ended well", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
