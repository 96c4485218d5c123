"""The nano's tokenizer: byte-level BPE in which each word of the world's sentences is one token."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sa2va_tools.atomic import write_bytes
from sa2va_tools.model.text.prompts import IMAGE, SPECIAL_TOKENS, region_tokens
from sa2va_tools.nano.world.sampling import SceneRecipe, sample_scene
from sa2va_tools.nano.world.scenes import COLOURS, SHAPES
from sa2va_tools.nano.world.tasks import IMAGE_TASKS, VIDEO_TASKS, sample_turns
from sa2va_tools.nano.world.turns import TurnRules

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
_FILE = "tokenizer.json"
_VOCABULARY_SIZE = 720
_SCENES = 1500
_NOT_WORDS = {"p", "seg", "img", "vp", "context", "user", "assistant"}
"""Letters of special tokens and of the chat template."""


def train_tokenizer() -> Tokenizer:
    """Always the same one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END, *SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=4,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def load_or_train_tokenizer(folder: Path | None) -> Tokenizer:
    """The tokenizer that the folder of a run stores. A resumed run needs the same one, even if the wording of
    the world has changed in between. It does not depend on the run's seed. Without a folder, a new one."""
    if folder is None:
        return train_tokenizer()
    stored = folder / _FILE
    if stored.exists():
        return Tokenizer.from_file(str(stored))
    tokenizer = train_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(stored, tokenizer.to_str(pretty=True).encode())
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, as in a published checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / _FILE))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
    }
    text = json.dumps(config, indent=1) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _corpus() -> Iterator[str]:
    rng = random.Random(0)
    yield from ["user\n", "assistant\n", "\n", *(region_tokens([0, 0, 0]) for _ in range(3))] * 30
    for colour in COLOURS:
        for shape in SHAPES:
            # Held-out pairs as well: these are words, not pictures, and no pair becomes a single token.
            yield from (f" {colour}", f" {shape}", f"{colour} {shape}", f"{shape}") * 8
    for number in range(_SCENES):
        video = number % 2 == 1
        objects = sample_scene(rng, SceneRecipe(video=video))
        tasks = VIDEO_TASKS if video else IMAGE_TASKS
        for turn in sample_turns(objects, rng, 8, tasks, TurnRules(video=video)):
            yield turn.question.removeprefix(IMAGE)
            yield turn.answer


@cache
def world_words() -> tuple[str, ...]:
    """All lower-case words of the questions and answers that the tokenizer is trained on, sorted."""
    text = " ".join(_corpus()).replace("<p>", " ")
    return tuple(sorted({word for word in re.findall(r"[a-z]+", text.lower()) if word not in _NOT_WORDS}))
