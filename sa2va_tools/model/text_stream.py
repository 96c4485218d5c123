"""An answer's text while its tokens come in: without markup, and never more than will stay."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sa2va_tools.model.prompt import without_markup
from sa2va_tools.model.tokenizer import Tokenizer

_LONGEST_CHARACTER = 8
"""Tokens after which bytes that are no character yet are taken for what they are: broken."""
_UNDECIDED = re.compile(
    r"(?:(?<=\[SEG\])(?:,| a?n?d?))?"  # goes with the marks, if another one follows
    r"\s*"  # goes with a mark, too, and at the end
    r"(?:<\|?/?[a-z_]*\|?|\[S?E?G?)?$"  # half a mark
)
_SETTLED = re.compile(r".*\w(?=\s+\w)", re.DOTALL)
"""No mark reaches over the end of this, whatever is on its other side."""


class TextStream:
    """The text of one answer. Each token costs the same, however long the text has become."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._done = self._from = 0
        """Tokens whose text is known, and the one from where the next are decoded: some tokens' text depends
        on what stands before them."""
        self._settled, self._rest = "", ""

    def text(self, written: Sequence[int]) -> str:
        """Of all tokens so far, which are those of the last call and more: a beginning of what `clean_answer`
        makes of the whole answer."""
        known = self._tokenizer.decode(list(written[self._from : self._done]))
        now = self._tokenizer.decode(list(written[self._from :]))
        if not now.endswith("\ufffd") or len(written) - self._done >= _LONGEST_CHARACTER:
            self._from, self._done = self._done, len(written)
            self._rest += now[len(known) :]
            settled = _SETTLED.match(self._rest)
            if settled is not None:
                self._settled += without_markup(settled.group())
                self._rest = self._rest[settled.end() :]
        shown = self._rest[: _first(_UNDECIDED, self._rest)]
        return (self._settled + without_markup(shown)).strip()


def _first(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return len(text) if found is None else found.start()
