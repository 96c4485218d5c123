"""The tests that need a GPU. Without one, and in a rehearsal, they are only collected and skipped."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.device.part import Part
from benchmarks.measuring import ROOT

_FILES = ("tests/test_gpu.py", "tests/test_training_device.py")
# Other tests need packages that such a machine may lack. Only the plugins that the settings name are loaded,
# because warnings of others would be errors.
_PLUGINS = ("no:cacheprovider", "pytest_timeout", "pytest_asyncio.plugin")


def run_tests() -> str:
    """RuntimeError if a test fails; pytest prints which."""
    plugins = [word for name in _PLUGINS for word in ("-p", name)]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *plugins, "-W", "default", *_FILES]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status:
        raise RuntimeError(f"pytest ended with status {status}")
    return "passed"


def main() -> int:
    """`python -m benchmarks.device.gpu_tests --out DIR`."""
    part = Part.from_command_line("gpu_tests", __doc__)
    part.step("pytest", run_tests)
    return part.finish()


if __name__ == "__main__":
    sys.exit(main())
