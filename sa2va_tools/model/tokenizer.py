"""A checkpoint's tokenizer, without its remote code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from sa2va_tools.errors import CheckpointError, CheckpointMismatchError, UnsupportedCheckpointError
from sa2va_tools.model.prompt import IMG_CONTEXT, SEG


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Text ↔ ids, and the ids that matter."""

    backend: Any
    image_id: int
    seg_id: int
    eos_id: int | None

    def encode(self, text: str) -> list[int]:
        """As upstream: special tokens in the text are recognised; a BOS comes if the files say so."""
        ids: list[int] = self.backend(text, add_special_tokens=True)["input_ids"]
        return ids

    def decode(self, ids: list[int]) -> str:
        text: str = self.backend.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json. Raises CheckpointError where it is missing, broken or lacks `[SEG]`."""
    if not (folder / "tokenizer.json").is_file():
        if (folder / "tokenizer.model").is_file():
            raise UnsupportedCheckpointError(
                f"{folder} has a SentencePiece tokenizer.model, which is not supported yet.",
                hint="Use an InternVL + Qwen2 checkpoint.",
            )
        raise CheckpointError(
            f"There is no tokenizer.json in {folder}.", hint="Download the checkpoint again."
        )
    try:
        backend = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), **_special_tokens(folder)
        )
    except Exception as error:
        raise CheckpointError(f"{folder / 'tokenizer.json'} cannot be read: {error}.") from error
    return Tokenizer(
        backend, _id_of(backend, IMG_CONTEXT, folder), _id_of(backend, SEG, folder), backend.eos_token_id
    )


def _special_tokens(folder: Path) -> dict[str, str]:
    """bos, eos, pad and unk from tokenizer_config.json; its classes and code are not used."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    texts = {name: found.get(name) for name in names}
    return {
        name: token["content"] if isinstance(token, dict) else token for name, token in texts.items() if token
    }


def _id_of(backend: Any, token: str, folder: Path) -> int:
    ids: list[int] = backend(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise CheckpointMismatchError(
            f"The tokenizer in {folder} has no token {token}.",
            hint="This is the tokenizer of a plain language model, not of a Sa2VA checkpoint.",
        )
    return ids[0]
