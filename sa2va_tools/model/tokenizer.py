"""A checkpoint's tokenizer, without its remote code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AddedToken, PreTrainedTokenizerFast, Qwen2Tokenizer

from sa2va_tools.errors import CheckpointError, CheckpointMismatchError
from sa2va_tools.model.prompt import IMG_CONTEXT, SEG

_AGAIN = "Download the checkpoint again."


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

    def require_room(self, vocabulary: int, folder: Path) -> None:
        """CheckpointMismatchError when a token that matters has no row among `vocabulary` embeddings."""
        highest = max(self.seg_id, self.image_id, self.eos_id or 0)
        if highest >= vocabulary:
            raise CheckpointMismatchError(
                f"The tokenizer in {folder} has tokens up to {highest}; "
                f"the config has embeddings for {vocabulary}.",
                hint="Tokenizer and weights are of different checkpoints; download them again.",
            )


def load_tokenizer(folder: Path, image_token: str = IMG_CONTEXT) -> Tokenizer:
    """Read tokenizer.json, or else Qwen2's vocab.json and merges.txt, or SentencePiece's tokenizer.model,
    with their added tokens.

    Raises CheckpointError where files are missing or broken, CheckpointMismatchError where the
    tokens that Sa2VA needs are not there.
    """
    backend = _fast(folder) if (folder / "tokenizer.json").is_file() else _from_vocabulary(folder)
    return Tokenizer(
        backend, _id_of(backend, image_token, folder), _id_of(backend, SEG, folder), backend.eos_token_id
    )


def _fast(folder: Path) -> Any:
    special = _special_tokens(folder)
    try:
        return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special)
    except Exception as error:  # the Rust tokenizer raises bare Exception
        raise CheckpointError(f"{folder / 'tokenizer.json'} cannot be read: {error}.", hint=_AGAIN) from error


def _from_vocabulary(folder: Path) -> Any:
    """Byte-level BPE as Qwen2 ships it, its added tokens put at the ids that the files give them."""
    if not ((folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()):
        if (folder / "tokenizer.model").is_file():
            return _from_sentencepiece(folder)
        raise CheckpointError(
            f"There is no tokenizer.json, no vocab.json with merges.txt and no tokenizer.model in {folder}.",
            hint=_AGAIN,
        )
    try:
        backend = Qwen2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    except Exception as error:  # the Rust tokenizer raises bare Exception
        raise CheckpointError(f"{folder / 'vocab.json'} cannot be read: {error}.", hint=_AGAIN) from error
    for token, wanted in sorted(_added_tokens(folder).items(), key=lambda item: item[1]):
        backend.add_tokens([AddedToken(token, normalized=False, special=True)], special_tokens=True)
        if backend.convert_tokens_to_ids(token) != wanted:
            raise CheckpointMismatchError(
                f"The added token {token!r} in {folder} should have the id {wanted}, "
                f"but the vocabulary puts it at {backend.convert_tokens_to_ids(token)}.",
                hint=_AGAIN,
            )
    for name, token in _special_tokens(folder).items():  # only now that each has its own id
        setattr(backend, name, token)
    return backend


def _from_sentencepiece(folder: Path) -> Any:
    from sa2va_tools.model.sentencepiece_tokenizer import SentencePieceTokenizer

    add_bos = bool(_read_json(folder / "tokenizer_config.json").get("add_bos_token", True))
    special = _special_tokens(folder)
    return SentencePieceTokenizer(folder / "tokenizer.model", _added_tokens(folder), special, add_bos=add_bos)


def _added_tokens(folder: Path) -> dict[str, int]:
    """From added_tokens.json and tokenizer_config.json's added_tokens_decoder, whichever is there."""
    decoder = _read_json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    from_config = {entry["content"]: int(number) for number, entry in decoder.items()}
    return from_config | _read_json(folder / "added_tokens.json")


def _special_tokens(folder: Path) -> dict[str, str]:
    """bos, eos, pad and unk from tokenizer_config.json; its classes and code are not used."""
    found = _read_json(folder / "tokenizer_config.json")
    texts = {name: found.get(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return {
        name: token["content"] if isinstance(token, dict) else token for name, token in texts.items() if token
    }


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.", hint=_AGAIN) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no JSON object.", hint=_AGAIN)
    return found


def _id_of(backend: Any, token: str, folder: Path) -> int:
    ids: list[int] = backend(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise CheckpointMismatchError(
            f"The tokenizer in {folder} has no token {token}.",
            hint="This is the tokenizer of a plain language model, not of a Sa2VA checkpoint.",
        )
    return ids[0]
