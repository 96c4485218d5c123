"""Greedy decoding, collecting the hidden state at each `[SEG]`.

Knows the `Family` interface and a tokenizer; nothing of pictures or masks. Only the states at
`[SEG]` are kept. As in the published code, a `[SEG]` that was never fed back (the last token when
the length runs out) has no state and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sa2va_tools.model.families.base import Embedded, Family
from sa2va_tools.model.reading import Read, read_prompt
from sa2va_tools.model.tokenizer import Tokenizer
from sa2va_tools.progress import CancelToken

_TAIL = 16
"""Tokens that are decoded to see whether a stop word has just been completed."""

NextToken = Callable[[int, Tensor], int]
"""(step, logits (vocabulary,)) → the next token."""


def greedy(step: int, logits: Tensor) -> int:
    return int(logits.argmax())


@dataclass(frozen=True, slots=True)
class Generation:
    """New tokens (with the stop token), and the (n, hidden) states at their `[SEG]`s."""

    token_ids: list[int]
    seg_hidden: Tensor
    truncated: bool


@dataclass(slots=True)
class Writer:
    """One answer while it is written."""

    tokenizer: Tokenizer
    stop_words: tuple[str, ...]
    most: int
    written: list[int] = field(default_factory=list)
    _states: list[Tensor] = field(default_factory=list)
    _ended: bool = False

    @property
    def done(self) -> bool:
        return self._ended or len(self.written) >= self.most

    def write(self, token: int) -> None:
        """Stop words are compared as text: `<|end|>` need not be a token of its own."""
        self.written.append(token)
        self._ended = token == self.tokenizer.eos_id or self.tokenizer.decode(self.written[-_TAIL:]).rstrip(
            "\r\n"
        ).endswith(self.stop_words)

    def fed(self, state: Tensor) -> None:
        """`state` (hidden,): what the language model made of the last token."""
        if self.written[-1] == self.tokenizer.seg_id:
            self._states.append(state.clone())  # not a view: the states beside it shall go

    def made(self, like: Tensor) -> Generation:
        """The answer; `like` (…, hidden) has the dtype and device of its states, where there are none."""
        hidden = torch.stack(self._states) if self._states else like.new_zeros((0, like.shape[-1]))
        return Generation(self.written, hidden, truncated=not self._ended)


def generate(
    family: Family,
    tokenizer: Tokenizer,
    prompt: Embedded,
    prompt_ids: Sequence[int],
    *,
    before: Read | None = None,
    stop_words: Sequence[str],
    max_new_tokens: int,
    next_token: NextToken = greedy,
    cancel: CancelToken | None = None,
    on_token: Callable[[Sequence[int]], None] = lambda written: None,
) -> tuple[Generation, Read]:
    """Continue the prompt until a stop word or `max_new_tokens`; `before` as in `read_prompt`. Returns the
    answer, and what was read: the prompt and all that was fed after it. `on_token` hears all tokens written.

    Raises CancelledError between tokens.
    """
    output, cache = read_prompt(family, prompt, prompt_ids, before=before, cancel=cancel)
    writer = Writer(tokenizer, tuple(stop_words), max_new_tokens)
    while not writer.done:
        if cancel is not None:
            cancel.raise_if_cancelled()
        token = next_token(len(writer.written), output.next_logits)
        writer.write(token)
        on_token(writer.written)
        if writer.done:
            break
        if cancel is not None:
            cancel.raise_if_cancelled()
        fed = torch.tensor([[token]], device=prompt.tokens.device)
        output = family.step(Embedded(family.token_embeddings(fed)), cache)
        writer.fed(output.hidden[-1])
    return writer.made(prompt.tokens), Read((*prompt_ids, *writer.written[:-1]), cache)
