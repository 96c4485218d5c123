"""Cancelling in the middle of a pass: a large model on a slow device takes many seconds for one frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sa2va_tools.progress import CancelToken


class Interrupts:
    """Raises CancelledError between the layers of watched modules, once the running job is cancelled."""

    def __init__(self) -> None:
        self._token: CancelToken | None = None

    def watch(self, modules: nn.Module, *, but: nn.Module | None = None) -> None:
        """Every layer of every stack of layers in `modules`, for good, but those inside of one of them."""
        left_out = set() if but is None else set(but.modules())
        for stack in modules.modules():
            if isinstance(stack, nn.ModuleList) and stack not in left_out:
                for layer in stack:
                    layer.register_forward_pre_hook(self._check)

    @contextmanager
    def heard_by(self, token: CancelToken | None) -> Iterator[None]:
        """In this block `token` is the one that counts."""
        before, self._token = self._token, token
        try:
            yield
        finally:
            self._token = before

    def _check(self, module: nn.Module, inputs: Any) -> None:
        if self._token is not None:
            self._token.raise_if_cancelled()
