"""Cancelling in the middle of a pass: a large model on a slow device takes many seconds for one frame."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention

from sa2va_tools.progress import CancelToken

_IN_PIECES = "sa2va_in_pieces"
_PIECE = 2**34
"""Multiplications of a piece of attention: about half a second of one core."""
_LEAST_QUERIES = 64


class Interrupts:
    """Raises CancelledError between the layers of watched modules, once the running job is cancelled."""

    def __init__(self) -> None:
        self._token: CancelToken | None = None

    def watch(self, modules: nn.Module, *, but: nn.Module | None = None, closely: bool = False) -> None:
        """Every layer of every stack of layers in `modules`, for good, but those inside of one of them.
        `closely`: every module that has none inside, too, and between pieces of memory attention, whose one
        product takes as long as all the rest of a layer many times over."""
        left_out = set() if but is None else set(but.modules())
        for module in modules.modules():
            if module in left_out:
                continue
            if isinstance(module, nn.ModuleList):
                for layer in module:
                    layer.register_forward_pre_hook(self._check)
            elif closely and isinstance(module, Sam2VideoRoPEAttention):
                attend_in_pieces(module, self.raise_if_cancelled)
            if closely and not any(True for _ in module.children()):
                module.register_forward_pre_hook(self._check)

    @contextmanager
    def heard_by(self, token: CancelToken | None) -> Iterator[None]:
        """In this block `token` is the one that counts."""
        before, self._token = self._token, token
        try:
            yield
        finally:
            self._token = before

    def raise_if_cancelled(self) -> None:
        if self._token is not None:
            self._token.raise_if_cancelled()

    def _check(self, module: nn.Module, inputs: Any) -> None:
        self.raise_if_cancelled()


def attend_in_pieces(module: Any, between: Callable[[], None]) -> None:
    """Let an attention of transformers take some queries at a time where there are many keys, and call
    `between` before each piece."""
    module.config = copy.deepcopy(module.config)  # the other modules go on as before
    module.config._attn_implementation = _IN_PIECES
    module.between_pieces = between


def _in_pieces(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **wishes: Any
) -> tuple[Tensor, None]:
    """What "sdpa" computes: (N, heads, queries, channels) → (N, queries, heads, channels)."""
    of_one_query = query.shape[0] * query.shape[1] * key.shape[2] * (query.shape[3] + value.shape[3])
    parts = []
    for part in query.split(max(_PIECE // of_one_query, _LEAST_QUERIES), dim=2):
        module.between_pieces()
        parts.append(sdpa_attention_forward(module, part, key, value, attention_mask, **wishes)[0])
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)), None


AttentionInterface.register(_IN_PIECES, _in_pieces)
