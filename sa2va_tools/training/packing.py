"""Conversations as tokens, and several turns about the same pictures in one sequence.

In such a sequence, each turn attends to the pictures and to itself only. This is mathematically the
same as one sequence per turn, because positions restart after the pictures and a 4-D mask hides the other
turns. But the pictures are encoded and processed once. Knows nothing of pixels or of what is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sa2va_tools.model.text.prompts import IMAGE, IMG_CONTEXT, SEG, Template

IGNORED = -100
"""The label of tokens without a loss, as in torch."""
_PREFIX = -1
_PADDING = -2
_MAX_CACHED_TEXTS = 50_000


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text, its token ids, and for each token the character of the text at which it ends."""

    text: str
    ids: list[int]
    ends: list[int]

    def find_token(self, character: int) -> int:
        """The number of the token that contains the character."""
        return next(number for number, end in enumerate(self.ends) if end > character)

    def find_last(self, words: str) -> int:
        """The number of the token with which the last occurrence of the words ends, regardless of case."""
        return self.find_token(self.text.lower().rfind(words.lower()) + len(words) - 1)


class ChatTokens:
    """Encodes single turns of a chat template; equal texts are encoded once. ValueError if the tokenizer has
    no `[SEG]` or no visual token."""

    def __init__(self, tokenizer: Tokenizer, template: Template) -> None:
        self._tokenizer = tokenizer
        self._before, self._after = template.user.split("{input}")
        self._end_of_answer = template.stop_words[0]
        self.image_id = _find_token_id(tokenizer, IMG_CONTEXT)
        self.seg_id = _find_token_id(tokenizer, SEG)
        self._cache: dict[str, EncodedText] = {}

    def encode_prefix(self, pictures: str) -> EncodedText:
        """Everything before the question: the beginning of the turn and the pictures' placeholders."""
        return self._encode(self._before + pictures)

    def encode_question(self, question: str, regions: str = "") -> EncodedText:
        """From the pictures' end up to where the answer begins. `question` contains `<image>`, in whose place
        the sentence about `regions` follows the pictures."""
        return self._encode(question.replace(IMAGE, regions) + self._after)

    def encode_answer(self, answer: str) -> EncodedText:
        """The answer with the token that ends it."""
        return self._encode(answer + self._end_of_answer)

    def _encode(self, text: str) -> EncodedText:
        if text not in self._cache:
            if len(self._cache) > _MAX_CACHED_TEXTS:
                self._cache.clear()
            encoded = self._tokenizer.encode(text)
            self._cache[text] = EncodedText(text, encoded.ids, [end for _, end in encoded.offsets])
        return self._cache[text]


def _find_token_id(tokenizer: Tokenizer, token: str) -> int:
    token_id: int | None = tokenizer.token_to_id(token)
    if token_id is None:
        raise ValueError(f"the tokenizer has no token {token!r}, which a Sa2VA tokenizer must have")
    return token_id


@dataclass(frozen=True, slots=True)
class PackedSequence:
    """The turns of one sample behind its prefix (the pictures).

    `turn_numbers` are -1 in the prefix; `question_starts` and `answer_starts` are the positions in `ids` at
    which each turn's question and answer begin.
    """

    ids: list[int]
    labels: list[int]
    positions: list[int]
    turn_numbers: list[int]
    question_starts: list[int]
    answer_starts: list[int]


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """B sequences, padded to L tokens.

    `ids`, `labels` (IGNORED outside answers), `positions` and `turn_numbers` (-1 in prefixes and padding) are
    (B, L); `mask` (B, 1, L, L) bool is True where a row's token may attend to a column's.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor
    turn_numbers: Tensor
    mask: Tensor


def pack_turns(prefix: Sequence[int], turns: Iterable[tuple[Sequence[int], Sequence[int]]]) -> PackedSequence:
    """Turns, each the ids of a question and of its answer with the token that ends it, behind one prefix; the
    positions of each turn continue those of the prefix."""
    start = len(prefix)
    packed = PackedSequence(
        ids=list(prefix),
        labels=[IGNORED] * start,
        positions=list(range(start)),
        turn_numbers=[_PREFIX] * start,
        question_starts=[],
        answer_starts=[],
    )
    for number, (question, answer) in enumerate(turns):
        length = len(question) + len(answer)
        packed.question_starts.append(len(packed.ids))
        packed.answer_starts.append(len(packed.ids) + len(question))
        packed.ids.extend((*question, *answer))
        packed.labels.extend((*[IGNORED] * len(question), *answer))
        packed.positions.extend(range(start, start + length))
        packed.turn_numbers.extend([number] * length)
    return packed


def stack_sequences(sequences: Sequence[PackedSequence]) -> PackedTokens:
    """Sequences as a batch, with its attention mask."""
    ids = pad_rows([each.ids for each in sequences], 0)
    turns = pad_rows([each.turn_numbers for each in sequences], _PADDING)
    length = ids.shape[1]
    same_turn = turns[:, :, None] == turns[:, None, :]
    is_prefix = turns[:, None, :] == _PREFIX
    mask = (same_turn | is_prefix) & torch.ones(length, length, dtype=torch.bool).tril()
    mask |= torch.eye(length, dtype=torch.bool)
    return PackedTokens(
        ids=ids,
        labels=pad_rows([each.labels for each in sequences], IGNORED),
        positions=pad_rows([each.positions for each in sequences], 0),
        turn_numbers=turns.clamp(min=_PREFIX),
        mask=mask[:, None],
    )


def pad_rows(rows: Sequence[list[int]] | Sequence[list[float]], fill: float) -> Tensor:
    """Rows of numbers, one per token, as one tensor: (B, L), filled up with `fill`."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])
