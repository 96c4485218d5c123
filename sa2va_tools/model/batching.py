"""Several questions about the same pictures, answered in lock-step: what their prompts share is read once,
and one pass of the language model writes a token of each answer.

The answers are those that `generate` gives one by one, up to rounding. Rows whose answer has ended leave the
batch; rows that do not fit into memory wait for their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad as padded
from transformers import DynamicCache

from sa2va_tools.model.families.base import Embedded, Family
from sa2va_tools.model.families.key_values import (
    OwnStates,
    joined_states,
    own_states,
    select_rows,
    shared_states,
    states_bytes,
)
from sa2va_tools.model.generation import Generation, Writer
from sa2va_tools.model.out_of_memory import attempt
from sa2va_tools.model.reading import Read, piece_width, read_beginning, shared_length
from sa2va_tools.model.tokenizer import Tokenizer
from sa2va_tools.progress import CancelToken

MOST_ROWS = 32
ROW_BYTES = 2**30
"""What the rows of a batch may take beside the shared beginning, by a rough estimate."""
_ANSWER_TOKENS = 128  # an answer of some length
_COPIES = 4  # of one layer's keys and values, while it is at work: joined, and repeated for the query heads


def generate_all(
    family: Family,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    embed: Callable[[Sequence[int]], Embedded],
    *,
    before: Read | None = None,
    stop_words: Sequence[str],
    max_new_tokens: int,
    cancel: CancelToken | None = None,
    on_token: Callable[[int], None] = lambda count: None,
    make_room: Callable[[], bool] = lambda: False,
    on_fewer: Callable[[int], None] = lambda rows: None,
) -> tuple[list[Generation], Read | None]:
    """Continue each prompt as `generate` would; all are about the pictures that `embed` puts into them.

    Also returns what was read for the first one: a conversation that goes on from these questions begins with
    it. None where memory was too short to keep it. `on_token` hears how many tokens all answers have, once
    per step. Where memory lacks, `make_room` is asked to let go of what is kept (False: nothing is), then
    fewer answers are written at once, which `on_fewer` hears. Raises CancelledError between steps, and
    torch's out-of-memory error when a single row does not fit.
    """
    writers = [Writer(tokenizer, tuple(stop_words), max_new_tokens) for _ in prompts]
    length = min(shared_length(*prompts), min(map(len, prompts)) - 1)  # of each, one token is left to read
    first = embed(prompts[0])
    like = first.tokens.new_empty((1, 0, first.tokens.shape[-1]))
    beginning = read_beginning(family, first, prompts[0][:length], before=before, cancel=cancel)
    del first, before  # what is kept of them may have to go
    batch = _Batch(family, prompts, embed, beginning, length, writers, cancel, on_token)
    most = batch.rows_at_once()
    while waiting := [number for number, writer in enumerate(writers) if not writer.done]:
        rows = waiting[:most]
        if len(rows) == 1:
            batch.write(rows)
        elif not attempt(partial(batch.write, rows)):
            for number in rows:
                if not writers[number].done:
                    writers[number] = Writer(tokenizer, tuple(stop_words), max_new_tokens)
            if not make_room():
                most = len(rows) // 2
                on_fewer(most)
    return [writer.made(like) for writer in writers], attempt(batch.first_read)


@dataclass(slots=True)
class _Batch:
    """Questions that go on from the first `length` tokens of `beginning`, and their writers."""

    family: Family
    prompts: Sequence[Sequence[int]]
    embed: Callable[[Sequence[int]], Embedded]
    beginning: Any
    length: int
    writers: list[Writer]
    cancel: CancelToken | None
    on_token: Callable[[int], None]
    _first: OwnStates = field(default_factory=list)
    """Of the first question, when its answer has ended."""
    _told: int = 0

    def rows_at_once(self) -> int:
        """As many as `ROW_BYTES` allow, by what a token takes in the shared beginning."""
        states = self.family.states_of(self.beginning)
        held = states.get_seq_length()
        if not held:
            return MOST_ROWS
        token = states_bytes(states) / held
        own = max(map(len, self.prompts)) - self.length + _ANSWER_TOKENS
        working = _COPIES * (self.length + own) / len(states.layers)
        return min(max(int(ROW_BYTES / (token * (own + working))), 1), MOST_ROWS)

    def write(self, numbers: Sequence[int]) -> bool:
        """Write the answers to these questions, which have none yet. True: it came to the end."""
        active = list(numbers)
        rows = _Rows(self.family, shared_states(self.family.states_of(self.beginning), self.length))
        logits = rows.read([self._own_part(number) for number in active], self.length, self.cancel)
        while True:
            self._check()
            written = logits.argmax(-1).tolist()
            for number, token in zip(active, written, strict=True):
                self.writers[number].write(token)
            # Answers that were begun anew are not counted down.
            self._told = max(self._told, sum(len(writer.written) for writer in self.writers))
            self.on_token(self._told)
            going = [row for row, number in enumerate(active) if not self.writers[number].done]
            if active[0] == 0 and 0 not in going:
                self._first = attempt(partial(own_states, rows.states, 0, rows.pads[0])) or []
            if not going:
                return True
            if len(going) < len(active):
                active, written = [active[row] for row in going], [written[row] for row in going]
                rows.keep(going)
            self._check()
            hidden, logits = rows.step(written)
            for row, number in enumerate(active):
                self.writers[number].fed(hidden[row])

    def first_read(self) -> Read | None:
        """The first question and its answer, read; None where they were not kept."""
        if not self._first:
            return None
        states = joined_states(self.family.states_of(self.beginning), self.length, self._first)
        tokens = (*self.prompts[0], *self.writers[0].written[:-1])
        return Read(tokens, self.family.cache_of(states))

    def _own_part(self, number: int) -> Embedded:
        """Of one prompt, what follows the shared beginning."""
        self._check()
        ids = self.prompts[number]
        part = self.embed(ids).part(self.length, len(ids))
        return replace(part, tokens=part.tokens.clone())  # not a view: the whole prompt shall go

    def _check(self) -> None:
        if self.cancel is not None:
            self.cancel.raise_if_cancelled()


class _Rows:
    """What the language model holds of each row: its own part of the prompt, padded on the left to the length
    of the longest, and its answer."""

    def __init__(self, family: Family, states: DynamicCache) -> None:
        self._family, self.states = family, states
        self.pads: list[int] = []
        self._seen: Tensor | None = None
        self._next: Tensor = torch.empty(0)
        """(rows, 1): the position of each row's next token."""

    def read(self, parts: Sequence[Embedded], start: int, cancel: CancelToken | None) -> Tensor:
        """Read each row's part, which follows `start` shared tokens: (rows, vocabulary) logits. Raises
        CancelledError between pieces."""
        widest = max(part.tokens.shape[1] for part in parts)
        self.pads = [widest - part.tokens.shape[1] for part in parts]
        device = parts[0].tokens.device
        places = torch.arange(start + widest, device=device)
        pads = torch.tensor(self.pads, device=device)[:, None]
        if any(self.pads):
            self._seen = (places < start) | (places >= start + pads)
        line = (places[start:] - pads).clamp(min=0)
        for piece, columns in _pieces(parts, self.pads, widest):
            if cancel is not None:
                cancel.raise_if_cancelled()
            if piece.positions is None:
                piece = replace(piece, positions=line[:, columns])
            seen = None if self._seen is None else self._seen[:, : start + columns.stop]
            output = self._family.step_all(replace(piece, seen=seen), self.states)
        last = [
            int(line[row, -1] if part.positions is None else part.positions.max())
            for row, part in enumerate(parts)
        ]
        self._next = torch.tensor(last, device=device)[:, None] + 1
        return output.next_logits

    def step(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Feed one token to each row: (rows, hidden) states and (rows, vocabulary) logits."""
        fed = torch.tensor(tokens, device=self._next.device)[:, None]
        if self._seen is not None:
            self._seen = padded(self._seen, (0, 1), value=True)
        read = Embedded(self._family.token_embeddings(fed), self._next, seen=self._seen)
        output = self._family.step_all(read, self.states)
        self._next = self._next + 1
        return output.hidden[:, -1], output.next_logits

    def keep(self, rows: Sequence[int]) -> None:
        """Let all rows but these go."""
        select_rows(self.states, rows)
        self.pads = [self.pads[row] for row in rows]
        chosen = torch.tensor(rows, device=self._next.device)
        self._next = self._next[chosen]
        if self._seen is not None:
            self._seen = self._seen[chosen] if any(self.pads) else None


def _pieces(parts: Sequence[Embedded], pads: Sequence[int], widest: int) -> Iterator[tuple[Embedded, slice]]:
    """The rows side by side, some columns at a time."""
    width = piece_width(len(parts))
    for start in range(0, widest, width):
        stop = min(start + width, widest)
        cut = [
            part.part(max(start - pad, 0), max(stop - pad, 0)) for part, pad in zip(parts, pads, strict=True)
        ]
        yield _side_by_side(cut, stop - start), slice(start, stop)


def _side_by_side(parts: Sequence[Embedded], width: int) -> Embedded:
    """Single rows as one batch, padded on the left to `width`."""

    def left(tensor: Tensor, *behind: int) -> Tensor:
        return padded(tensor, (*behind, width - tensor.shape[-1 - len(behind) // 2], 0))

    positions = [left(part.positions) for part in parts if part.positions is not None]
    blank = parts[0].tokens.new_zeros((1, width), dtype=torch.bool)
    pictured = [blank if part.pictured is None else left(part.pictured) for part in parts]
    deep = [part.deep for part in parts if part.deep]
    return Embedded(
        torch.cat([left(part.tokens, 0, 0) for part in parts]),
        torch.cat(positions, 1) if positions else None,
        torch.cat(pictured) if deep else None,
        tuple(torch.cat(features) for features in zip(*deep, strict=True)),
    )
