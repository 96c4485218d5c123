"""The nano's tokenizer: byte-level BPE with the published special tokens, learnt from the world's own words.

Any text can be tokenised; words of the world are single tokens.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sa2va_tools.model.prompt import SPECIAL_TOKENS, region_tokens
from sa2va_tools.training.tasks import IMAGE_TASKS, VIDEO_TASKS, TurnRules, sample_turns
from sa2va_tools.training.world import COLOURS, SHAPES, SceneRecipe, sample_scene

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_VOCABULARY = 720
_SCENES = 1500
_MARKS = {"p", "seg", "img", "vp", "context", "user", "assistant"}  # of special tokens and the template


def train_tokenizer(seed: int = 0) -> Tokenizer:
    """Deterministic by seed; the same words whoever trains it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END, *SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=4,
    )
    tokenizer.train_from_iterator(_corpus(random.Random(seed)), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json, as a published checkpoint has them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
    }
    text = json.dumps(config, indent=1) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _corpus(rng: random.Random) -> Iterator[str]:
    yield from ["user\n", "assistant\n", "\n", *(region_tokens([0, 0, 0]) for _ in range(3))] * 30
    for colour in COLOURS:
        for shape in SHAPES:
            # Held-out pairs too: these are words, not pictures, and no pair becomes one token.
            yield from (f" {colour}", f" {shape}", f"{colour} {shape}", f"{shape}") * 8
    for number in range(_SCENES):
        video = number % 2 == 1
        objects = sample_scene(rng, SceneRecipe(video=video))
        tasks = VIDEO_TASKS if video else IMAGE_TASKS
        for turn in sample_turns(objects, rng, 8, tasks, TurnRules(video=video)):
            yield turn.question.removeprefix("<image>")
            yield turn.answer


@cache
def world_words() -> tuple[str, ...]:
    """Every lower-case word of the questions and answers that the tokenizer was learnt from, sorted."""
    texts = " ".join(_corpus(random.Random(0))).replace("<p>", " ")
    return tuple(sorted({word for word in re.findall(r"[a-z]+", texts.lower()) if word not in _MARKS}))
