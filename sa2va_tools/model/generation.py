"""Greedy decoding, collecting the hidden state at each `[SEG]`.

Knows the `Family` interface and a tokenizer; nothing of pictures or masks. Only the states at
`[SEG]` are kept. As in the published code, a `[SEG]` that was never fed back (the last token when
the length runs out) has no state and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    read: Read
    """The prompt and all that was fed after it."""


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
    on_token: Callable[[int], None] = lambda count: None,
) -> Generation:
    """Continue the prompt until a stop word or `max_new_tokens`; `before` as in `read_prompt`.

    Raises CancelledError between tokens.
    """
    output, cache = read_prompt(family, prompt, prompt_ids, before=before, cancel=cancel)
    written: list[int] = []
    states: list[Tensor] = []
    ended = False
    while len(written) < max_new_tokens:
        if cancel is not None:
            cancel.raise_if_cancelled()
        token = next_token(len(written), output.next_logits)
        written.append(token)
        on_token(len(written))
        ended = token == tokenizer.eos_id or _ends(tokenizer, written, stop_words)
        if ended or len(written) == max_new_tokens:
            break
        fed = torch.tensor([[token]], device=prompt.tokens.device)
        output = family.step(Embedded(family.token_embeddings(fed)), cache)
        if token == tokenizer.seg_id:
            states.append(output.hidden[-1])
    hidden = torch.stack(states) if states else prompt.tokens.new_zeros((0, prompt.tokens.shape[-1]))
    read = Read((*prompt_ids, *written[:-1]), cache)
    return Generation(written, hidden, truncated=not ended, read=read)


def _ends(tokenizer: Tokenizer, written: list[int], stop_words: Sequence[str]) -> bool:
    """Stop words are compared as text: `<|end|>` need not be a token of its own."""
    return tokenizer.decode(written[-_TAIL:]).rstrip("\r\n").endswith(tuple(stop_words))
