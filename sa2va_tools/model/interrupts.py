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

from sa2va_tools.progress import CancelToken

_IN_PIECES = "sa2va_in_pieces"
_PIECE = 2**35
"""Multiplications of a piece of attention: about a second of one core."""
_LEAST_QUERIES, _BLOCK = 768, 256  # with fewer at once torch's kernel goes in smaller steps, and slower


class Interrupts:
    """Raises CancelledError between the layers of watched modules, once the running job is cancelled."""

    def __init__(self) -> None:
        self._token: CancelToken | None = None

    def watch(self, modules: nn.Module, *, but: nn.Module | None = None, closely: bool = False) -> None:
        """Every layer of every stack of layers in `modules`, for good, but those inside of one of them.
        `closely`: every module that has none inside, too, and between pieces of attention that looks both
        ways (memories, large pictures), whose one product may take as long as all the rest of a layer many
        times over."""
        left_out = set() if but is None else set(but.modules())
        for module in modules.modules():
            if module in left_out:
                continue
            if isinstance(module, nn.ModuleList):
                for layer in module:
                    layer.register_forward_pre_hook(self._check)
            elif closely and _looks_both_ways(module):
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


def _looks_both_ways(module: Any) -> bool:
    """Is it an attention of transformers without a causal mask, computed by torch's kernel?"""
    implementation = getattr(getattr(module, "config", None), "_attn_implementation", None)
    return getattr(module, "is_causal", None) is False and implementation == "sdpa"


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
    of_one_query = query.shape[1] * key.shape[2] * (query.shape[3] + value.shape[3])
    many = attention_mask is None and query.shape[0] * query.shape[2] * of_one_query > _PIECE
    width = max(_PIECE // of_one_query // _BLOCK * _BLOCK, _LEAST_QUERIES)
    rows = []
    for one in zip(*(each.split(1 if many else len(each)) for each in (query, key, value)), strict=True):
        pieces = []
        for part in one[0].split(width if many else query.shape[2], dim=2):
            module.between_pieces()
            pieces.append(sdpa_attention_forward(module, part, *one[1:], attention_mask, **wishes)[0])
        rows.append(torch.cat(pieces, 1))
    return torch.cat(rows), None


AttentionInterface.register(_IN_PIECES, _in_pieces)
