"""A SentencePiece `tokenizer.model` with added tokens, as the InternLM2 checkpoints ship it.

Does what their remote tokenizer code does: text is cut at added tokens, what lies between goes through the
SentencePiece model, a BOS comes first. Decoding keeps the text as it is; the remote code puts spaces around
added tokens.
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
    """The part of a transformers tokenizer that `Tokenizer` uses. Raises CheckpointError for a file that
    is no SentencePiece model."""

    def __init__(
        self, file: Path, added: Mapping[str, int], special: Mapping[str, str], *, add_bos: bool = True
    ) -> None:
        self._model: Any = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(file.read_bytes())
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{file} is no SentencePiece model: {error}.", hint="Download the checkpoint again."
            ) from error
        self._ids = {token: self._model.piece_to_id(token) for token in special.values()} | dict(added)
        self._added = {number: token for token, number in self._ids.items()}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._cut = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._begin = [self._ids[special["bos_token"]]] if add_bos and "bos_token" in special else []
        self.eos_token_id: int | None = self._ids.get(special.get("eos_token", ""))
        self._takes_first_space = self._model.id_to_piece(self._model.encode("a")[0]).startswith(_SPACE)

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """`input_ids` of the text."""
        ids = list(self._begin) if add_special_tokens else []
        at = 0
        for match in self._cut.finditer(text):
            ids += self._model.encode(text[at : match.start()])
            ids.append(self._ids[match.group()])
            at = match.end()
        return {"input_ids": ids + self._model.encode(text[at:])}

    def decode(self, ids: Iterable[int], **_: object) -> str:
        """Text of tokens, added ones as they are written."""
        parts: list[bytes] = []
        starts = True
        for number in ids:
            if number in self._added:
                parts.append(self._added[number].encode())
                starts = True
                continue
            piece = self._piece(number)
            byte = _BYTE.fullmatch(piece)
            text = bytes.fromhex(byte.group(1)) if byte else piece.replace(_SPACE, " ").encode()
            # SentencePiece puts a space before each text that it is given: also after an added token.
            parts.append(text.removeprefix(b" ") if starts and self._takes_first_space else text)
            starts = False
        return b"".join(parts).decode(errors="replace")

    def _piece(self, number: int) -> str:
        known = 0 <= number < self._model.get_piece_size()
        piece: str = self._model.id_to_piece(number) if known else ""
        return piece
