"""Shared by all tests: one thread per process, so that timing does not depend on what else runs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
