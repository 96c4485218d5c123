"""Greedy decoding that collects the hidden state at each `[SEG]`.

Knows the `Family` interface and a tokenizer; nothing about pictures or masks. Only the states at `[SEG]` are
stored. As in the published code, a `[SEG]` that was never fed back (the last token when the length runs out)
has no state and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sa2va_tools.model.families.base import Family, LanguageInputs
from sa2va_tools.model.generation.prefill import CachedPrefix, prefill
from sa2va_tools.model.text.tokenizer import Tokenizer
from sa2va_tools.run import Run

_TAIL_TOKENS = 16
"""Tokens that are decoded to check whether a stop word has just been completed."""

NextToken = Callable[[int, Tensor], int]
"""(step, logits (vocabulary,)) → the next token."""


def greedy(step: int, logits: Tensor) -> int:
    """The most probable token."""
    return int(logits.argmax())


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """New tokens including the stop token, and the (n, hidden) states at their `[SEG]`s."""

    token_ids: list[int]
    seg_hidden: Tensor
    truncated: bool


@dataclass(slots=True)
class AnswerWriter:
    """One answer while it is being generated."""

    tokenizer: Tokenizer
    stop_words: tuple[str, ...]
    max_new_tokens: int
    token_ids: list[int] = field(default_factory=list)
    _seg_states: list[Tensor] = field(default_factory=list)
    _has_stopped: bool = False

    @property
    def is_done(self) -> bool:
        return self._has_stopped or len(self.token_ids) >= self.max_new_tokens

    def add_token(self, token: int) -> None:
        """Stop words are compared as text: `<|end|>` need not be a token of its own."""
        self.token_ids.append(token)
        tail = self.tokenizer.decode(self.token_ids[-_TAIL_TOKENS:]).rstrip("\r\n")
        self._has_stopped = token == self.tokenizer.eos_id or tail.endswith(self.stop_words)

    def add_hidden_state(self, state: Tensor) -> None:
        """`state` (hidden,) is the language model's output for the last token."""
        if self.token_ids[-1] == self.tokenizer.seg_id:
            self._seg_states.append(state.clone())  # a view would keep its neighbours alive

    def finish(self, like: Tensor) -> GeneratedAnswer:
        """The answer; `like` (…, hidden) tells dtype and device if there is no state."""
        states = self._seg_states
        hidden = torch.stack(states) if states else like.new_zeros((0, like.shape[-1]))
        return GeneratedAnswer(self.token_ids, hidden, truncated=not self._has_stopped)


def generate(
    family: Family,
    tokenizer: Tokenizer,
    inputs: LanguageInputs,
    prompt_ids: Sequence[int],
    run: Run,
    *,
    stop_words: Sequence[str],
    max_new_tokens: int,
    cached_prefix: CachedPrefix | None = None,
    next_token: NextToken = greedy,
    on_token: Callable[[Sequence[int]], None] = lambda token_ids: None,
) -> tuple[GeneratedAnswer, CachedPrefix]:
    """Continue the prompt until a stop word or `max_new_tokens`; `cached_prefix` as in `prefill`.

    Returns the answer and a new cached prefix: the prompt and everything fed after it. `on_token` gets all
    tokens so far. Raises CancelledError between tokens.
    """
    output, cache = prefill(family, inputs, prompt_ids, run, cached_prefix)
    writer = AnswerWriter(tokenizer, tuple(stop_words), max_new_tokens)
    device = inputs.inputs_embeds.device
    # (3, 1, 1); a picture takes fewer positions than tokens.
    last_position = None if inputs.position_ids is None else inputs.position_ids.max().expand(3, 1, 1)
    while not writer.is_done:
        run.raise_if_cancelled()
        token = next_token(len(writer.token_ids), output.next_logits[0])
        writer.add_token(token)
        on_token(writer.token_ids)
        if writer.is_done:
            break
        run.raise_if_cancelled()
        token_ids = torch.tensor([[token]], device=device)
        position_ids = None if last_position is None else last_position + len(writer.token_ids)
        output = family.step(LanguageInputs(family.embed_tokens(token_ids), position_ids), cache)
        writer.add_hidden_state(output.hidden_states[0, -1])
    answer = writer.finish(inputs.inputs_embeds)
    return answer, CachedPrefix((*prompt_ids, *writer.token_ids[:-1]), cache)
