"""Cancellation inside a forward pass, because one frame can take many seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sa2va_tools.run import Run


class CancelHooks:
    """Raise CancelledError between layers of the watched modules, once the current run is cancelled."""

    def __init__(self, modules: nn.Module, *, skip: nn.Module | None = None) -> None:
        """Hook every layer of every stack of layers in `modules`, for good, except those inside `skip`."""
        self._run: Run | None = None
        skipped = set() if skip is None else set(skip.modules())
        for module in modules.modules():
            if isinstance(module, nn.ModuleList) and module not in skipped:
                for layer in module:
                    layer.register_forward_pre_hook(self._check)

    @contextmanager
    def follow(self, run: Run) -> Iterator[None]:
        """In this block, `run` is the one whose cancelling counts."""
        before = self._run
        self._run = run
        try:
            yield
        finally:
            self._run = before

    def _check(self, module: nn.Module, inputs: Any) -> None:
        if self._run is not None:
            self._run.raise_if_cancelled()
