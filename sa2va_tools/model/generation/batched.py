"""Several questions about the same pictures, answered in lock-step: the common prefix of their prompts is
processed once, and one pass of the language model generates a token of each answer.

The answers are those that `generate` gives one by one, up to rounding. Rows whose answer has ended leave the
batch; rows that do not fit into memory are processed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from sa2va_tools.model.device.memory_policy import MemoryPolicy
from sa2va_tools.model.families import kv_cache
from sa2va_tools.model.families.base import Family, LanguageInputs
from sa2va_tools.model.generation.decoding import AnswerWriter, GeneratedAnswer
from sa2va_tools.model.generation.prefill import (
    CachedPrefix,
    count_shared_tokens,
    piece_width,
    prefill_shared,
)
from sa2va_tools.model.text.tokenizer import Tokenizer
from sa2va_tools.run import Run

ROW_BYTES = 2**30
"""What the rows of a batch may take in addition to the shared prefix, by a rough estimate."""
_ANSWER_TOKENS = 128  # a typical answer
_LAYER_COPIES = 4  # of one layer's keys and values while it runs: joined, and repeated for the query heads


def generate_batch(
    family: Family,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    embed: Callable[[Sequence[int]], LanguageInputs],
    run: Run,
    policy: MemoryPolicy,
    *,
    stop_words: Sequence[str],
    max_new_tokens: int,
    cached_prefix: CachedPrefix | None = None,
    on_token: Callable[[int], None] = lambda count: None,
) -> tuple[list[GeneratedAnswer], CachedPrefix | None]:
    """Continue each prompt as `generate` would; all are about the pictures that `embed` puts into them.

    Also returns a cached prefix of the first question and its answer, which a conversation about these
    questions continues; None if there is none. `on_token` gets the number of tokens of all answers, once per
    step. Raises CancelledError between steps.
    """
    # Of each prompt, at least one token is left to feed.
    length = min(count_shared_tokens(*prompts), min(map(len, prompts)) - 1)
    first = embed(prompts[0])
    like = first.inputs_embeds.new_empty((1, 0, first.inputs_embeds.shape[-1]))
    prefix = prefill_shared(family, first, prompts[0][:length], run, cached_prefix)
    del first, cached_prefix  # frees their memory for the rows
    start_writer = partial(AnswerWriter, tokenizer, tuple(stop_words), max_new_tokens)
    batch = _Batch(family, prompts, embed, prefix, length, start_writer, run, on_token)
    policy.sizes.answers = min(policy.sizes.answers, batch.max_rows())
    writers = policy.in_batches("answers", len(prompts), batch.generate)
    answers = [writer.finish(like) for group in writers for writer in group]
    return answers, batch.first_prefix(writers[0][0])


@dataclass(slots=True)
class _Batch:
    """Questions that continue the first `length` tokens of `prefix`."""

    family: Family
    prompts: Sequence[Sequence[int]]
    embed: Callable[[Sequence[int]], LanguageInputs]
    prefix: DynamicCache
    length: int
    start_writer: Callable[[], AnswerWriter]
    run: Run
    on_token: Callable[[int], None]
    _first_suffix: kv_cache.RowSuffix = field(default_factory=list)
    """Keys and values of the first question once its answer has ended."""
    _finished_tokens: int = 0
    """Tokens of the groups before this one."""

    def max_rows(self) -> int:
        """How many rows fit into `ROW_BYTES`, by what a token takes in the shared prefix."""
        stored = self.prefix.get_seq_length()
        if not stored:
            return len(self.prompts)
        token_bytes = kv_cache.count_cache_bytes(self.prefix) / stored
        own_tokens = max(map(len, self.prompts)) - self.length + _ANSWER_TOKENS
        working_tokens = _LAYER_COPIES * (self.length + own_tokens) / len(self.prefix.layers)
        return max(int(ROW_BYTES / (token_bytes * (own_tokens + working_tokens))), 1)

    def generate(self, part: slice) -> list[AnswerWriter]:
        """Answer these questions together."""
        numbers = range(len(self.prompts))[part]
        writers = [self.start_writer() for _ in numbers]
        rows = _Rows(self.family, kv_cache.share_prefix(self.prefix, self.length))
        logits = rows.prefill([self._own_inputs(number) for number in numbers], self.length, self.run)
        active = list(range(len(writers)))
        while True:
            self.run.raise_if_cancelled()
            tokens = logits.argmax(-1).tolist()
            for row, token in zip(active, tokens, strict=True):
                writers[row].add_token(token)
            total = sum(len(writer.token_ids) for writer in writers)
            self.on_token(self._finished_tokens + total)
            going = [index for index, row in enumerate(active) if not writers[row].is_done]
            if numbers[0] == 0 and active[0] == 0 and 0 not in going:
                self._first_suffix = kv_cache.copy_row_suffix(rows.key_values, 0, rows.padding[0])
            if not going:
                self._finished_tokens += total
                return writers
            if len(going) < len(active):
                active = [active[index] for index in going]
                tokens = [tokens[index] for index in going]
                rows.select(going)
            self.run.raise_if_cancelled()
            hidden_states, logits = rows.step(tokens)
            for index, row in enumerate(active):
                writers[row].add_hidden_state(hidden_states[index])

    def first_prefix(self, writer: AnswerWriter) -> CachedPrefix | None:
        """The first question and its answer; `writer` wrote it."""
        if not self._first_suffix:
            return None
        token_ids = (*self.prompts[0], *writer.token_ids[:-1])
        return CachedPrefix(token_ids, kv_cache.join_prefix(self.prefix, self.length, self._first_suffix))

    def _own_inputs(self, number: int) -> LanguageInputs:
        """What follows the shared prefix in one prompt."""
        self.run.raise_if_cancelled()
        ids = self.prompts[number]
        inputs = self.embed(ids).slice_tokens(self.length, len(ids))
        return replace(inputs, inputs_embeds=inputs.inputs_embeds.clone())  # frees the rest of the prompt


class _Rows:
    """The language model's state for each row: its part of the prompt, padded on the left, and its answer."""

    def __init__(self, family: Family, key_values: DynamicCache) -> None:
        self._family = family
        self.key_values = key_values
        self.padding: list[int] = []
        self._attention_mask: Tensor | None = None
        self._next_position: Tensor = torch.empty(0)
        """(rows, 1)"""

    def prefill(self, parts: Sequence[LanguageInputs], start: int, run: Run) -> Tensor:
        """Feed each row's part after `start` shared tokens: (rows, vocabulary) logits. CancelledError."""
        widest = max(part.inputs_embeds.shape[1] for part in parts)
        self.padding = [widest - part.inputs_embeds.shape[1] for part in parts]
        device = parts[0].inputs_embeds.device
        positions = torch.arange(start + widest, device=device)
        padding = torch.tensor(self.padding, device=device)[:, None]
        if any(self.padding):
            self._attention_mask = (positions < start) | (positions >= start + padding)
        text_positions = (positions[start:] - padding).clamp(min=0)
        for piece, columns in _pieces(parts, self.padding, widest):
            run.raise_if_cancelled()
            if piece.position_ids is None:
                piece = replace(piece, position_ids=text_positions[:, columns])
            mask = None if self._attention_mask is None else self._attention_mask[:, : start + columns.stop]
            output = self._family.step(replace(piece, attention_mask=mask), self.key_values)
        last = [
            int(text_positions[row, -1] if part.position_ids is None else part.position_ids.max())
            for row, part in enumerate(parts)
        ]
        self._next_position = torch.tensor(last, device=device)[:, None] + 1
        return output.next_logits

    def step(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Feed one token to each row: (rows, hidden) states and (rows, vocabulary) logits."""
        token_ids = torch.tensor(tokens, device=self._next_position.device)[:, None]
        if self._attention_mask is not None:
            self._attention_mask = pad(self._attention_mask, (0, 1), value=True)
        inputs = LanguageInputs(
            self._family.embed_tokens(token_ids), self._next_position, attention_mask=self._attention_mask
        )
        output = self._family.step(inputs, self.key_values)
        self._next_position = self._next_position + 1
        return output.hidden_states[:, -1], output.next_logits

    def select(self, rows: Sequence[int]) -> None:
        """Drop all rows except these."""
        kv_cache.select_rows(self.key_values, rows)
        self.padding = [self.padding[row] for row in rows]
        index = torch.tensor(rows, device=self._next_position.device)
        self._next_position = self._next_position[index]
        if self._attention_mask is not None:
            self._attention_mask = self._attention_mask[index] if any(self.padding) else None


def _pieces(
    parts: Sequence[LanguageInputs], padding: Sequence[int], widest: int
) -> Iterator[tuple[LanguageInputs, slice]]:
    """The rows as one batch, some columns at a time."""
    width = piece_width(len(parts))
    for start in range(0, widest, width):
        stop = min(start + width, widest)
        cut = [
            part.slice_tokens(max(start - pads, 0), max(stop - pads, 0))
            for part, pads in zip(parts, padding, strict=True)
        ]
        yield _stack_rows(cut, stop - start), slice(start, stop)


def _stack_rows(parts: Sequence[LanguageInputs], width: int) -> LanguageInputs:
    """Single rows as one batch, padded on the left to `width`."""

    def pad_left(tensor: Tensor, *trailing: int) -> Tensor:
        return pad(tensor, (*trailing, width - tensor.shape[-1 - len(trailing) // 2], 0))

    positions = [pad_left(part.position_ids) for part in parts if part.position_ids is not None]
    blank = parts[0].inputs_embeds.new_zeros((1, width), dtype=torch.bool)
    image_masks = [blank if part.image_mask is None else pad_left(part.image_mask) for part in parts]
    deepstack = [part.deepstack_features for part in parts if part.deepstack_features]
    return LanguageInputs(
        torch.cat([pad_left(part.inputs_embeds, 0, 0) for part in parts]),
        torch.cat(positions, 1) if positions else None,
        torch.cat(image_masks) if deepstack else None,
        tuple(torch.cat(features) for features in zip(*deepstack, strict=True)),
    )
