"""Reading a prompt: piece by piece, and not again what the language model has read before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sa2va_tools.model.families.base import Embedded, Family, StepOutput
from sa2va_tools.progress import CancelToken

_PIECE = 1024
"""Tokens that are read at once: working memory is bounded, and a cancel is heard between pieces."""


@dataclass(frozen=True, slots=True)
class Read:
    """Tokens, and the family's cache after they were fed."""

    token_ids: tuple[int, ...]
    states: Any


def read_prompt(
    family: Family,
    prompt: Embedded,
    token_ids: Sequence[int],
    *,
    before: Read | None = None,
    cancel: CancelToken | None = None,
) -> tuple[StepOutput, Any]:
    """The state after the last token of the prompt, and the cache. `before` was read of the same pictures and
    regions: what the prompt shares with it is taken over. Raises CancelledError between pieces."""
    # The last token is read in any case: its state begins the answer.
    start = 0 if before is None else min(_shared(before.token_ids, token_ids), len(token_ids) - 1)
    cache = family.new_cache() if before is None or not start else family.copied(before.states, start)
    for at in range(start, len(token_ids), _PIECE):
        if cancel is not None:
            cancel.raise_if_cancelled()
        output = family.step(prompt.part(at, min(at + _PIECE, len(token_ids))), cache)
    return output, cache


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for count, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return count
    return min(len(one), len(other))
