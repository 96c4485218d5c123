"""Clips with their turns as batches of tokens, and which object each token is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from sa2va_tools.model.preprocessing import region_prompts
from sa2va_tools.model.text.prompts import find_template, picture_tokens, region_tokens
from sa2va_tools.nano.course.dense import TOKEN_GRID, TOKENS
from sa2va_tools.nano.world.rendering import Clip
from sa2va_tools.nano.world.scenes import COLOURS, HELD_OUT_COLOUR, HELD_OUT_SHAPE, SHAPES
from sa2va_tools.nano.world.tasks import ONE_WORD_TASKS
from sa2va_tools.nano.world.turns import Turn
from sa2va_tools.training import packing
from sa2va_tools.training.packing import EncodedText

_ONE_WORD_WEIGHT = 2.0
_NONE = -1


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip, all of whose frames the language model sees, and turns about it."""

    clip: Clip
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class EncodedQuestion:
    """A question as tokens, the visual tokens that its regions repeat, and its subject's last token."""

    text: EncodedText
    region_cells: list[int]
    subject_end: int | None


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """B samples with F frames each; K is the number of visual tokens of a frame.

    Marks are rows of (row of the batch, position of a token, object). A mention marks the token before the
    word that it is about, which has to predict that word.
    """

    tokens: packing.PackedTokens
    excluded: Tensor
    """(B, L): the token to exclude at each position, see `_UntrainedWords`; or -1"""
    emphasis: Tensor
    """(B, L): factors for the tokens' weights in the loss"""
    image_positions: Tensor
    """(B, F·K): where the frames' visual tokens go"""
    region_positions: Tensor
    """(R, 2): row and position of tokens that repeat a visual token of the last frame"""
    region_cells: Tensor
    """(R, 2): row and number of that visual token"""
    segments: Tensor
    """(S, 3): marks of `[SEG]` tokens"""
    mentions: Tensor
    """(M, 3): marks of tokens before words about an object's looks, and of the last token of its name in the
    question"""
    movements: Tensor
    """(V, 3): marks of tokens before words about an object's motion"""
    counts: Tensor
    """(C, 3): marks of the token before a number, one for each counted object"""


@dataclass(slots=True)
class _Row:
    """One sample: its tokens, and what `PackedBatch` says about them."""

    tokens: packing.PackedSequence
    excluded: list[int]
    emphasis: list[float]
    region_positions: list[int] = field(default_factory=list)
    region_cells: list[int] = field(default_factory=list)
    segments: list[tuple[int, int]] = field(default_factory=list)
    mentions: list[tuple[int, int]] = field(default_factory=list)
    movements: list[tuple[int, int]] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)


class Packer:
    """Turns samples into batches with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._chat = packing.ChatTokens(tokenizer, find_template("qwen_chat"))
        self._untrained_words = _UntrainedWords(tokenizer)

    def encode_prefix(self, frames: int) -> EncodedText:
        """Everything before the question: the beginning of the chat and the frames."""
        return self._chat.encode_prefix(picture_tokens([1] * frames, TOKENS))

    def encode_question(self, turn: Turn, clip: Clip) -> EncodedQuestion:
        """From the end of the frames up to where the answer begins."""
        cells = [region_cells(clip.mask_hw(index)) for index in turn.regions]
        regions = region_tokens([len(each) for each in cells]) if cells else ""
        text = self._chat.encode_question(turn.question, regions)
        # The text ends with the template's <|im_start|>, in which the subject "star" is found instead of the
        # word itself. The shipped weights were trained with that.
        subject_end = text.find_last(turn.subject) if turn.subject else None
        return EncodedQuestion(text, [int(cell) for each in cells for cell in each], subject_end)

    def pack(self, samples: Sequence[Sample]) -> PackedBatch:
        """All samples must have the same number of frames."""
        rows = [self._pack_sample(sample) for sample in samples]
        prefix = self.encode_prefix(len(samples[0].clip.frames_thwc)).ids
        image_positions = [p for p, token in enumerate(prefix) if token == self._chat.image_id]
        return PackedBatch(
            tokens=packing.stack_sequences([row.tokens for row in rows]),
            excluded=packing.pad_rows([row.excluded for row in rows], _NONE),
            emphasis=packing.pad_rows([row.emphasis for row in rows], 1.0),
            image_positions=torch.tensor([image_positions] * len(rows)),
            region_positions=_stack(((b, p) for b, row in enumerate(rows) for p in row.region_positions), 2),
            region_cells=_stack(((b, c) for b, row in enumerate(rows) for c in row.region_cells), 2),
            segments=_stack(((b, *mark) for b, row in enumerate(rows) for mark in row.segments), 3),
            mentions=_stack(((b, *mark) for b, row in enumerate(rows) for mark in row.mentions), 3),
            movements=_stack(((b, *mark) for b, row in enumerate(rows) for mark in row.movements), 3),
            counts=_stack(((b, *mark) for b, row in enumerate(rows) for mark in row.counts), 3),
        )

    def _pack_sample(self, sample: Sample) -> _Row:
        prefix = self.encode_prefix(len(sample.clip.frames_thwc)).ids
        questions = [self.encode_question(turn, sample.clip) for turn in sample.turns]
        answers = [self._chat.encode_answer(turn.answer) for turn in sample.turns]
        pairs = zip(questions, answers, strict=True)
        tokens = packing.pack_turns(prefix, ((question.text.ids, answer.ids) for question, answer in pairs))
        row = _Row(tokens, excluded=[_NONE] * len(prefix), emphasis=[1.0] * len(prefix))
        for number, (turn, question, answer) in enumerate(zip(sample.turns, questions, answers, strict=True)):
            self._mark_answer(row, number, turn, answer)
            self._mark_question(row, number, turn, question)
            excluded = self._untrained_words.find_excluded(answer, turn, sample.clip)
            row.excluded += [_NONE] * len(question.text.ids) + excluded
            weight = _ONE_WORD_WEIGHT if turn.task in ONE_WORD_TASKS else 1.0
            row.emphasis += [weight] * (len(question.text.ids) + len(answer.ids))
        return row

    def _mark_question(self, row: _Row, number: int, turn: Turn, question: EncodedQuestion) -> None:
        start = row.tokens.question_starts[number]
        row.region_positions += [
            start + k for k, token in enumerate(question.text.ids) if token == self._chat.image_id
        ]
        row.region_cells += question.region_cells
        if question.subject_end is not None:
            row.mentions.append((start + question.subject_end, turn.mentions[0][1]))

    def _mark_answer(self, row: _Row, number: int, turn: Turn, answer: EncodedText) -> None:
        start = row.tokens.answer_starts[number]
        seg_positions = [start + k for k, token in enumerate(answer.ids) if token == self._chat.seg_id]
        row.segments += zip(seg_positions, turn.segments, strict=True)
        for marks, mentions in ((row.mentions, turn.mentions), (row.movements, turn.movements)):
            marks += [(start + answer.find_token(character) - 1, index) for character, index in mentions]
        row.counts += [(start - 1, index) for index in turn.counted]


def region_cells(mask_hw: np.ndarray) -> np.ndarray:
    """The visual tokens that a region repeats: nearest sampling of its mask, as published. If the region
    covers no sample point, the token that it covers most, as the config's `region_cell_share` promises."""
    cells = region_prompts.region_cells(mask_hw, TOKEN_GRID)
    return cells if len(cells) else np.array([region_prompts.find_fullest_cell(mask_hw, TOKEN_GRID)[0]])


def _stack(rows: Iterable[tuple[int, ...]], columns: int) -> Tensor:
    return torch.tensor(list(rows), dtype=torch.long).view(-1, columns)


class _UntrainedWords:
    """Words of answers that a loss must not suppress: the other half of a held-out pair.

    Where an answer names the colour of an object, no training example shows whether a held-out shape could
    have that colour. So that colour is excluded from the words to choose from; likewise for shapes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._colour_ids = [_single_token(tokenizer, word) for word in COLOURS]
        self._shape_ids = [_single_token(tokenizer, word) for word in SHAPES]

    def find_excluded(self, answer: EncodedText, turn: Turn, clip: Clip) -> list[int]:
        """For each token of the answer, the token to exclude, or -1."""
        return [
            self._exclude(token, end, answer, turn, clip)
            for token, end in zip(answer.ids, answer.ends, strict=True)
        ]

    def _exclude(self, token: int, end: int, answer: EncodedText, turn: Turn, clip: Clip) -> int:
        if token in self._shape_ids:
            colour, _ = self._find_looks(answer, end, turn, clip)
            shape = None if colour is None else HELD_OUT_SHAPE.get(colour)
            return _NONE if shape is None else self._shape_ids[shape]
        if token in self._colour_ids:
            _, shape = self._find_looks(answer, end, turn, clip)
            colour = None if shape is None else HELD_OUT_COLOUR.get(shape)
            return _NONE if colour is None else self._colour_ids[colour]
        return _NONE

    def _find_looks(
        self, answer: EncodedText, end: int, turn: Turn, clip: Clip
    ) -> tuple[int | None, int | None]:
        """Colour and shape of the object that the answer is about at character `end`; for an absent object,
        as the answer names it."""
        mentioned = [index for character, index in turn.mentions if character < end]
        if mentioned:
            obj = clip.objects[mentioned[-1]]
            return obj.colour, obj.shape
        colours = [self._colour_ids.index(token) for token in answer.ids if token in self._colour_ids]
        shapes = [self._shape_ids.index(token) for token in answer.ids if token in self._shape_ids]
        return next(iter(colours), None), next(iter(shapes), None)


def _single_token(tokenizer: Tokenizer, word: str) -> int:
    """The token of a word inside a sentence; ValueError if the tokenizer splits it."""
    ids: list[int] = tokenizer.encode(f" {word}").ids
    if len(ids) != 1:
        raise ValueError(f"the tokenizer splits {word!r} into {len(ids)} tokens; it must be a single one")
    return ids[0]
