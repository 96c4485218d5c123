"""Reading a prompt: piece by piece, and not again what the language model has read before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    start = 0 if before is None else min(shared_length(before.token_ids, token_ids), len(token_ids) - 1)
    cache = _taken_over(family, before, start)
    for part in _pieces(prompt, start, len(token_ids), cancel):
        output = family.step(part, cache)
    return output, cache


def read_beginning(
    family: Family,
    prompt: Embedded,
    token_ids: Sequence[int],
    *,
    before: Read | None = None,
    cancel: CancelToken | None = None,
) -> Any:
    """A cache that begins with `token_ids`, the first ones of the prompt: to be read, not to be fed, for it
    may be that of `before`. Raises CancelledError between pieces."""
    start = 0 if before is None else shared_length(before.token_ids, token_ids)
    if before is not None and start == len(token_ids):
        return before.states
    cache = _taken_over(family, before, start)
    for part in _pieces(prompt, start, len(token_ids), cancel):
        family.step(part, cache)
    return cache


def shared_length(one: Sequence[int], *others: Sequence[int]) -> int:
    """How many tokens all begin with."""
    for count, tokens in enumerate(zip(one, *others, strict=False)):
        if any(token != tokens[0] for token in tokens[1:]):
            return count
    return min(len(each) for each in (one, *others))


def piece_width(rows: int) -> int:
    """Tokens of each row that are read at once."""
    return max(_PIECE // rows, 1)


def _taken_over(family: Family, before: Read | None, length: int) -> Any:
    return family.new_cache() if before is None or not length else family.copied(before.states, length)


def _pieces(prompt: Embedded, start: int, stop: int, cancel: CancelToken | None) -> Iterator[Embedded]:
    for at in range(start, stop, piece_width(1)):
        if cancel is not None:
            cancel.raise_if_cancelled()
        yield prompt.part(at, min(at + piece_width(1), stop))
