"""The text of an answer while its tokens arrive: without markup or text that later tokens may change."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sa2va_tools.model.text.prompts import strip_markup
from sa2va_tools.model.text.tokenizer import Tokenizer

_MAX_CHARACTER_TOKENS = 8
"""After so many tokens without a whole character, their bytes are taken to be invalid."""
_UNDECIDED = re.compile(
    r"(?:(?<=\[SEG\])(?:,| a?n?d?))?"  # removed together with the marks if another mark follows
    r"\s*"  # removed together with a mark, and at the end of the answer
    r"(?:<\|?/?[a-z_]*\|?|\[S?E?G?)?$"  # the beginning of a mark
)
_FINAL = re.compile(r".*\w(?=\s+\w)", re.DOTALL)
"""No mark extends across the end of this text, whatever follows."""


class TextStream:
    """The text of one answer. Each token takes the same time, however long the text is."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoded = 0
        """How many tokens are decoded."""
        self._context_start = 0
        """The token from which the next ones are decoded: the text of some depends on those before."""
        self._final_text = ""
        self._tail = ""
        """Raw text after `_final_text`."""

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of all tokens so far, which begin with those of the last call: a prefix of what
        `clean_answer` returns for the whole answer."""
        known = self._tokenizer.decode(list(token_ids[self._context_start : self._decoded]))
        now = self._tokenizer.decode(list(token_ids[self._context_start :]))
        is_whole = not now.endswith("\ufffd")  # what decoders put for an incomplete character
        if is_whole or len(token_ids) - self._decoded >= _MAX_CHARACTER_TOKENS:
            self._context_start = self._decoded
            self._decoded = len(token_ids)
            self._tail += now[len(known) :]
            final = _FINAL.match(self._tail)
            if final is not None:
                self._final_text += strip_markup(final.group())
                self._tail = self._tail[final.end() :]
        undecided = _UNDECIDED.search(self._tail)
        shown = self._tail if undecided is None else self._tail[: undecided.start()]
        return (self._final_text + strip_markup(shown)).strip()
