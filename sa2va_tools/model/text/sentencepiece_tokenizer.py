"""A SentencePiece `tokenizer.model` with added tokens, as shipped with the InternLM2 checkpoints.

Encodes like their remote tokenizer code: text is split at added tokens, the SentencePiece model encodes what
is between them, and a BOS comes first. Unlike that code, decoding puts no spaces around added tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sentencepiece

from sa2va_tools.errors import CheckpointError

_SPACE = "▁"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class SentencePieceTokenizer:
    """Has the part of a transformers tokenizer's interface that `Tokenizer` uses. Raises CheckpointError if
    the file is not a SentencePiece model."""

    def __init__(
        self, file: Path, added: Mapping[str, int], special: Mapping[str, str], *, add_bos: bool = True
    ) -> None:
        self._model: Any = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(file.read_bytes())
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{file} is not a SentencePiece model: {error}.", hint="Download the checkpoint again."
            ) from error
        self._ids = {token: self._model.piece_to_id(token) for token in special.values()} | dict(added)
        self._added = {number: token for token, number in self._ids.items()}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._added_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._bos = [self._ids[special["bos_token"]]] if add_bos and "bos_token" in special else []
        self.eos_token_id: int | None = self._ids.get(special.get("eos_token", ""))
        self._adds_space = self._model.id_to_piece(self._model.encode("a")[0]).startswith(_SPACE)

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """`input_ids` of the text, as from a transformers tokenizer."""
        ids = list(self._bos) if add_special_tokens else []
        start = 0
        for match in self._added_pattern.finditer(text):
            ids += self._model.encode(text[start : match.start()])
            ids.append(self._ids[match.group()])
            start = match.end()
        return {"input_ids": ids + self._model.encode(text[start:])}

    def decode(self, ids: Iterable[int], **_: object) -> str:
        """The text of the tokens."""
        parts: list[bytes] = []
        at_start = True
        for number in ids:
            if number in self._added:
                parts.append(self._added[number].encode())
                at_start = True
                continue
            is_known = 0 <= number < self._model.get_piece_size()
            piece = self._model.id_to_piece(number) if is_known else ""
            byte = _BYTE.fullmatch(piece)
            text = bytes.fromhex(byte.group(1)) if byte else piece.replace(_SPACE, " ").encode()
            # SentencePiece puts a space before each text that it encodes, also after an added token.
            parts.append(text.removeprefix(b" ") if at_start and self._adds_space else text)
            at_start = False
        return b"".join(parts).decode(errors="replace")
