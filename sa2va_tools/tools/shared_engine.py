"""One engine for many tools: opened when it is first needed, closed once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sa2va_tools.engine.protocol import Engine

EngineSource = Engine | Callable[[], Engine]
"""An engine, or what opens one."""


class SharedEngine:
    """Safe to use from several threads."""

    def __init__(self, source: EngineSource) -> None:
        self._source = source
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def get(self) -> Engine:
        """The engine. Raises what the source raises; the next call tries again."""
        with self._lock:
            if self._engine is None:
                self._engine = self._source if isinstance(self._source, Engine) else self._source()
            return self._engine

    def close(self) -> None:
        with self._lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None
