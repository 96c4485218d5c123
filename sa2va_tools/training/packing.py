"""Several turns about one clip behind one picture prefix: each sees the prefix and itself, nothing else.

Mathematically the same as one sample per turn (positions restart after the prefix, a 4-D mask hides the other
turns), but the pictures are encoded and read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from sa2va_tools.model import regions
from sa2va_tools.model.prompt import (
    IMAGE,
    IMG_CONTEXT,
    SEG,
    picture_tokens,
    region_tokens,
    template_named,
)
from sa2va_tools.training.dense_heads import TOKEN_CELLS, TOKEN_GRID
from sa2va_tools.training.rendering import Clip
from sa2va_tools.training.tasks import ONE_WORD_ANSWERS, Turn
from sa2va_tools.training.world import COLOUR_KEPT_FROM, COLOURS, SHAPE_KEPT_FROM, SHAPES

IGNORED = -100
_ONE_WORD_WEIGHT = 2.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip as the language model sees it (all its frames), and what is asked about it."""

    clip: Clip
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """B samples padded to L tokens; all have F frames.

    `ids`, `labels` (IGNORED outside answers), `positions`: (B, L); `kept` (B, L): the word that a label must
    not be told apart from, or -1 (see `held_out_looks`); `mask` (B, 1, L, L) bool;
    `places` (B, F·K): where the frames' visual tokens go; `region_places` and `region_cells` (R, 2): (row,
    position) filled by (row, token of the last frame); `segments` (S, 3): row, position of `[SEG]`, object;
    `mentions` (M, 3): row, position of a token that is about to speak of the object or ends its name, object;
    `movements` (V, 3) likewise for the words of its motion; `counts` (C, 3) likewise for each object of a
    number; `turn_of_token` (B, L), -1 in prefix and padding; `emphasis` (B, L), what an answer's words weigh.
    """

    ids: Tensor
    labels: Tensor
    kept: Tensor
    positions: Tensor
    mask: Tensor
    places: Tensor
    region_places: Tensor
    region_cells: Tensor
    segments: Tensor
    mentions: Tensor
    movements: Tensor
    counts: Tensor
    turn_of_token: Tensor
    emphasis: Tensor


@dataclass(slots=True)
class _Row:
    ids: list[int]
    labels: list[int]
    kept: list[int]
    positions: list[int]
    turns: list[int]
    emphasis: list[float]
    region_places: list[int] = field(default_factory=list)
    region_cells: list[int] = field(default_factory=list)
    segments: list[tuple[int, int]] = field(default_factory=list)
    mentions: list[tuple[int, int]] = field(default_factory=list)
    movements: list[tuple[int, int]] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)


class Packer:
    """Turns samples into batches with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, template: str = "qwen_chat") -> None:
        self._tokenizer = tokenizer
        before, after = template_named(template).user.split("{input}")
        self._before, self._after = before, after
        self._end = template_named(template).stop_words[0]
        self._image_id = tokenizer.token_to_id(IMG_CONTEXT)
        self._seg_id = tokenizer.token_to_id(SEG)
        self._words = _Words(tokenizer)
        self._cache: dict[str, tuple[list[int], list[int]]] = {}

    def prefix(self, frames: int) -> list[int]:
        """Tokens before the first turn: what `chat_text` begins with."""
        return self._encode(self._before + picture_tokens([1] * frames, TOKEN_CELLS))[0]

    def question(self, turn: Turn, clip: Clip) -> tuple[list[int], list[int], int | None]:
        """Tokens from the picture to the answer, the picture cells that its regions repeat, and the token
        with which its subject ends."""
        regions = [region_cells(clip.mask_hw(i)) for i in turn.regions]
        marks = region_tokens([len(cells) for cells in regions]) if regions else ""
        text = turn.question.replace(IMAGE, marks) + self._after
        ids, ends = self._encode(text)
        subject = text.lower().rfind(turn.subject.lower()) + len(turn.subject)
        last = next(k for k, end in enumerate(ends) if end >= subject) if turn.subject else None
        return ids, [int(c) for cells in regions for c in cells], last

    def pack(self, samples: Sequence[Sample]) -> PackedBatch:
        rows = [self._row(sample) for sample in samples]
        length = max(len(row.ids) for row in rows)

        def padded(values: Sequence[list[int]] | Sequence[list[float]], fill: float) -> Tensor:
            return torch.tensor([v + [fill] * (length - len(v)) for v in values])

        ids = padded([row.ids for row in rows], 0)
        turns = padded([row.turns for row in rows], -2)
        same = turns[:, :, None] == turns[:, None, :]
        seen = (same | (turns[:, None, :] == -1)) & torch.ones(length, length, dtype=torch.bool).tril()
        seen |= torch.eye(length, dtype=torch.bool)
        frames = len(samples[0].clip.frames_thwc)
        picture = self.prefix(frames)
        places = [p for p, token in enumerate(picture) if token == self._image_id]
        return PackedBatch(
            ids=ids,
            labels=padded([row.labels for row in rows], IGNORED),
            kept=padded([row.kept for row in rows], -1),
            positions=padded([row.positions for row in rows], 0),
            mask=seen[:, None],
            places=torch.tensor([places] * len(rows)),
            region_places=_pairs((b, p) for b, row in enumerate(rows) for p in row.region_places),
            region_cells=_pairs((b, c) for b, row in enumerate(rows) for c in row.region_cells),
            segments=_triples((b, *s) for b, row in enumerate(rows) for s in row.segments),
            mentions=_triples((b, *m) for b, row in enumerate(rows) for m in row.mentions),
            movements=_triples((b, *m) for b, row in enumerate(rows) for m in row.movements),
            counts=_triples((b, *m) for b, row in enumerate(rows) for m in row.counts),
            turn_of_token=turns.clamp(min=-1),
            emphasis=padded([row.emphasis for row in rows], 1.0),
        )

    def _row(self, sample: Sample) -> _Row:
        prefix = self.prefix(len(sample.clip.frames_thwc))
        start = len(prefix)
        nobody = [-1] * start
        row = _Row(list(prefix), [IGNORED] * start, nobody, list(range(start)), [*nobody], [1.0] * start)
        for number, turn in enumerate(sample.turns):
            question, cells, subject = self.question(turn, sample.clip)
            answer, ends = self._encode(turn.answer + self._end)
            begin = len(row.ids)
            row.region_places += [begin + k for k, t in enumerate(question) if t == self._image_id]
            row.region_cells += cells
            first = begin + len(question)
            marks = [first + k for k, t in enumerate(answer) if t == self._seg_id]
            row.segments += list(zip(marks, turn.segments, strict=True))
            for found, spoken in ((row.mentions, turn.mentions), (row.movements, turn.movements)):
                for character, thing in spoken:
                    word = next(k for k, end in enumerate(ends) if end > character)
                    found.append((first + word - 1, thing))
            if subject is not None:
                row.mentions.append((begin + subject, turn.mentions[0][1]))
            row.counts += [(first - 1, thing) for thing in turn.counted]
            tokens = question + answer
            row.ids += tokens
            row.labels += [IGNORED] * len(question) + answer
            row.kept += [-1] * len(question) + self._words.kept(answer, ends, turn, sample.clip)
            row.positions += range(start, start + len(tokens))
            row.turns += [number] * len(tokens)
            row.emphasis += [_ONE_WORD_WEIGHT if turn.task in ONE_WORD_ANSWERS else 1.0] * len(tokens)
        return row

    def _encode(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids, and the character where each ends."""
        if text not in self._cache:
            if len(self._cache) > 50_000:
                self._cache.clear()
            encoded = self._tokenizer.encode(text)
            self._cache[text] = (encoded.ids, [end for _, end in encoded.offsets])
        return self._cache[text]


class _Words:
    """Which tokens are colours and shapes, and which of them a loss must leave out of a choice."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._colours = {_id_of_word(tokenizer, word): k for k, word in enumerate(COLOURS)}
        self._shapes = {_id_of_word(tokenizer, word): k for k, word in enumerate(SHAPES)}
        self._colour_ids = {k: token for token, k in self._colours.items()}
        self._shape_ids = {k: token for token, k in self._shapes.items()}

    def kept(self, answer: list[int], ends: list[int], turn: Turn, clip: Clip) -> list[int]:
        """For every answer token, the token to leave out, or -1."""
        kept: list[int] = []
        for token, end in zip(answer, ends, strict=True):
            if token in self._shapes:
                colour, _ = self._pair(answer, end, turn, clip)
                left_out = None if colour is None else SHAPE_KEPT_FROM.get(colour)
                kept.append(-1 if left_out is None else self._shape_ids[left_out])
            elif token in self._colours:
                _, shape = self._pair(answer, end, turn, clip)
                left_out = None if shape is None else COLOUR_KEPT_FROM.get(shape)
                kept.append(-1 if left_out is None else self._colour_ids[left_out])
            else:
                kept.append(-1)
        return kept

    def _pair(self, answer: list[int], end: int, turn: Turn, clip: Clip) -> tuple[int | None, int | None]:
        """Colour and shape of the object spoken of there; of a denied one, as the answer names it."""
        spoken = [thing for character, thing in turn.mentions if character < end]
        if spoken:
            return clip.objects[spoken[-1]].colour, clip.objects[spoken[-1]].shape
        colour = next((self._colours[t] for t in answer if t in self._colours), None)
        return colour, next((self._shapes[t] for t in answer if t in self._shapes), None)


def _id_of_word(tokenizer: Tokenizer, word: str) -> int:
    """The one token of a word inside a sentence; ValueError where the tokenizer cuts it up."""
    ids: list[int] = tokenizer.encode(f" {word}").ids
    if len(ids) != 1:
        raise ValueError(f"the tokenizer cuts {word!r} into {len(ids)} tokens; it needs one")
    return ids[0]


def region_cells(mask_hw: np.ndarray) -> np.ndarray:
    """The tokens that a region repeats: nearest sampling of its mask, as published; a region that falls
    between the samples gets the token it covers most, as `REGION_CELL_SHARE` promises."""
    cells = regions.region_cells(mask_hw, TOKEN_GRID)
    return cells if len(cells) else np.array([regions.fullest_cell(mask_hw, TOKEN_GRID)[0]])


def _pairs(values: object) -> Tensor:
    return torch.tensor(list(values), dtype=torch.long).view(-1, 2)  # type: ignore[call-overload]


def _triples(values: object) -> Tensor:
    return torch.tensor(list(values), dtype=torch.long).view(-1, 3)  # type: ignore[call-overload]
