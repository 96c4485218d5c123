"""Feed a prompt to the language model piece by piece, reusing the prefix that it has processed before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from transformers import DynamicCache

from sa2va_tools.model.families.base import Family, LanguageInputs, StepOutput
from sa2va_tools.model.families.kv_cache import copy_prefix
from sa2va_tools.run import Run

_PIECE_TOKENS = 1024
"""Tokens fed at once: bounds working memory, and a cancel is noticed between pieces."""


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """Tokens, and the keys and values after they were fed."""

    token_ids: tuple[int, ...]
    cache: DynamicCache


def prefill(
    family: Family, inputs: LanguageInputs, token_ids: Sequence[int], run: Run, prefix: CachedPrefix | None
) -> tuple[StepOutput, DynamicCache]:
    """The output for the last token of the prompt, and the cache. What the prompt shares with `prefix`, which
    is about the same pictures and regions, is not computed again. Raises CancelledError."""
    # The last token is fed in any case: its output begins the answer.
    start = min(_count_known_tokens(prefix, token_ids), len(token_ids) - 1)
    cache = _continue_from(family, prefix, start)
    for piece in _pieces(inputs, start, len(token_ids), run):
        output = family.step(piece, cache)
    return output, cache


def prefill_shared(
    family: Family, inputs: LanguageInputs, token_ids: Sequence[int], run: Run, prefix: CachedPrefix | None
) -> DynamicCache:
    """A cache that begins with `token_ids`, the first tokens of the prompt. Read it, do not continue it: it
    may be that of `prefix`. Raises CancelledError."""
    start = _count_known_tokens(prefix, token_ids)
    if prefix is not None and start == len(token_ids):
        return prefix.cache
    cache = _continue_from(family, prefix, start)
    for piece in _pieces(inputs, start, len(token_ids), run):
        family.step(piece, cache)
    return cache


def count_shared_tokens(*sequences: Sequence[int]) -> int:
    """The length of the common prefix."""
    columns = zip(*sequences, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def piece_width(rows: int) -> int:
    """How many tokens of each row are fed at once."""
    return max(_PIECE_TOKENS // rows, 1)


def _count_known_tokens(prefix: CachedPrefix | None, token_ids: Sequence[int]) -> int:
    return 0 if prefix is None else count_shared_tokens(prefix.token_ids, token_ids)


def _continue_from(family: Family, prefix: CachedPrefix | None, length: int) -> DynamicCache:
    return family.new_cache() if prefix is None or not length else copy_prefix(prefix.cache, length)


def _pieces(inputs: LanguageInputs, start: int, stop: int, run: Run) -> Iterator[LanguageInputs]:
    width = piece_width(1)
    for first in range(start, stop, width):
        run.raise_if_cancelled()
        yield inputs.slice_tokens(first, min(first + width, stop))
