"""A checkpoint's tokenizer, read without its remote code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AddedToken, PreTrainedTokenizerFast, Qwen2Tokenizer

from sa2va_tools.errors import CheckpointError, CheckpointMismatchError
from sa2va_tools.model.config import FamilyName
from sa2va_tools.model.text.prompts import IMAGE_TOKENS, SEG

_DOWNLOAD_AGAIN = "Download the checkpoint again."


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Converts text to token ids and back, and knows the ids with a meaning."""

    backend: Any
    image_id: int
    seg_id: int
    eos_id: int | None

    def encode(self, text: str) -> list[int]:
        """As upstream: special tokens in the text are recognised; a BOS comes first if the files have one."""
        return self.backend(text, add_special_tokens=True)["input_ids"]

    def decode(self, ids: list[int]) -> str:
        return self.backend.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def require_embeddings(self, count: int, folder: Path) -> None:
        """CheckpointMismatchError if one of these ids is not below `count`, the number of embeddings."""
        highest = max(self.seg_id, self.image_id, self.eos_id or 0)
        if highest >= count:
            raise CheckpointMismatchError(
                f"The tokenizer in {folder} has token ids up to {highest}; "
                f"the config has embeddings for {count} tokens.",
                hint="Tokenizer and weights belong to different checkpoints: download the checkpoint again.",
            )


def load_tokenizer(folder: Path, family: FamilyName = "internvl") -> Tokenizer:
    """Read tokenizer.json, or else Qwen2's vocab.json and merges.txt, or SentencePiece's tokenizer.model,
    with their added tokens.

    Raises CheckpointError if files are missing or broken, CheckpointMismatchError if the tokens that Sa2VA
    needs are missing.
    """
    if (folder / "tokenizer.json").is_file():
        backend = _load_fast(folder)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        backend = _load_qwen2(folder)
    elif (folder / "tokenizer.model").is_file():
        backend = _load_sentencepiece(folder)
    else:
        raise CheckpointError(
            f"There is no tokenizer.json, no vocab.json with merges.txt and no tokenizer.model in {folder}.",
            hint=_DOWNLOAD_AGAIN,
        )
    image_id, seg_id = (_find_token_id(backend, token, folder) for token in (IMAGE_TOKENS[family], SEG))
    return Tokenizer(backend, image_id, seg_id, backend.eos_token_id)


def _load_fast(folder: Path) -> Any:
    special = _read_special_tokens(folder)
    try:
        return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special)
    except Exception as error:  # the Rust tokenizer raises bare Exception
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} cannot be read: {error}.", hint=_DOWNLOAD_AGAIN
        ) from error


def _load_qwen2(folder: Path) -> Any:
    """Byte-level BPE as Qwen2 ships it, with added tokens at the ids that the files give."""
    try:
        backend = Qwen2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    except Exception as error:  # the Rust tokenizer raises bare Exception
        raise CheckpointError(
            f"{folder / 'vocab.json'} cannot be read: {error}.", hint=_DOWNLOAD_AGAIN
        ) from error
    for token, number in sorted(_read_added_tokens(folder).items(), key=lambda item: item[1]):
        backend.add_tokens([AddedToken(token, normalized=False, special=True)], special_tokens=True)
        if backend.convert_tokens_to_ids(token) != number:
            raise CheckpointMismatchError(
                f"The added token {token!r} in {folder} should have the id {number}, "
                f"but the vocabulary puts it at {backend.convert_tokens_to_ids(token)}.",
                hint=_DOWNLOAD_AGAIN,
            )
    for name, token in _read_special_tokens(folder).items():  # not before each has its id
        setattr(backend, name, token)
    return backend


def _load_sentencepiece(folder: Path) -> Any:
    from sa2va_tools.model.text.sentencepiece_tokenizer import SentencePieceTokenizer

    add_bos = bool(_read_json(folder / "tokenizer_config.json").get("add_bos_token", True))
    special = _read_special_tokens(folder)
    return SentencePieceTokenizer(
        folder / "tokenizer.model", _read_added_tokens(folder), special, add_bos=add_bos
    )


def _read_added_tokens(folder: Path) -> dict[str, int]:
    """Token → id, from added_tokens.json and the added_tokens_decoder of tokenizer_config.json."""
    decoder = _read_json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    from_config = {entry["content"]: int(number) for number, entry in decoder.items()}
    return from_config | _read_json(folder / "added_tokens.json")


def _read_special_tokens(folder: Path) -> dict[str, str]:
    """The bos, eos, pad and unk tokens of tokenizer_config.json; its classes and code are not used."""
    config = _read_json(folder / "tokenizer_config.json")
    tokens = {name: config.get(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return {
        name: token["content"] if isinstance(token, dict) else token
        for name, token in tokens.items()
        if token
    }


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no file."""
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.", hint=_DOWNLOAD_AGAIN) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} does not hold a JSON object.", hint=_DOWNLOAD_AGAIN)
    return found


def _find_token_id(backend: Any, token: str, folder: Path) -> int:
    ids: list[int] = backend(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise CheckpointMismatchError(
            f"The tokenizer in {folder} has no token {token}.",
            hint="This is the tokenizer of a plain language model, not of a Sa2VA checkpoint.",
        )
    return ids[0]
