"""The part of every engine's interface that is about results of earlier calls. Needs no model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sa2va_tools.checks import (
    check_flag,
    check_number,
    check_texts,
    check_whole_number,
    start_run,
    type_error,
)
from sa2va_tools.engine.results import AnswerResult, CaptionResult, ResultKind, SegmentResult
from sa2va_tools.errors import RequestError
from sa2va_tools.run import Run
from sa2va_tools.wording import argument, call

if TYPE_CHECKING:
    from sa2va_tools.engine.stored_results import StoredResult
    from sa2va_tools.store.removal import Removal

_HANDLES = "a handle or a list of handles"


class KeptResults(ABC):
    """Lists, loads and removes what earlier calls have stored."""

    def list_results(
        self,
        *,
        media: Any = None,
        kind: ResultKind | None = None,
        text: str | None = None,
        limit: int | None = None,
        run: Run | None = None,
    ) -> tuple[StoredResult, ...]:
        """The results in the store, newest first: those about `media` (a path, also of a file that is gone or
        has changed; or anything else that calls take as media), of one kind of call, with `text` in a label,
        the question, the answer or the media's name, and at most `limit` of them."""
        if text is not None and not isinstance(text, str):
            raise type_error("text", text, "text")
        if kind is not None and not isinstance(kind, str):
            raise type_error("kind", kind, "text")
        if limit is not None:
            limit = check_whole_number("limit", limit, least=1)
        return self._list_results(media, kind, text or "", start_run(run))[:limit]

    def load_result(
        self, handle: str, *, run: Run | None = None
    ) -> AnswerResult | SegmentResult | CaptionResult:
        """The stored result behind an `answer:…` handle, as its call returned it; or a single mask, by its
        `mask:…` handle, as the only object of a SegmentResult. UnknownHandleError if it is not in the store.
        Pixels and overlays need the image or video; everything else works without it."""
        if not isinstance(handle, str):
            raise type_error("handle", handle, "a handle (answer:… or mask:…)")
        return self._load_result(handle.strip(), start_run(run))

    def remove_results(
        self,
        handles: str | Sequence[str] = (),
        *,
        older_than_s: float | None = None,
        everything: bool = False,
        dry_run: bool = False,
        run: Run | None = None,
    ) -> Removal:
        """Remove stored results: those of these handles, those last made more than `older_than_s` seconds
        ago, or everything. Returns what was removed; with `dry_run`, what would be.

        The masks of an answer go with it, except those that another answer has as well; so does what is known
        of an image or video that no other result is about, but never its file. A `media:…` handle stands for
        all results about it. A mask that is a part of an answer cannot be removed alone: RequestError.
        UnknownHandleError, before anything is removed, for a handle that is not in the store.
        """
        names = [name.strip() for name in check_texts("handles", handles, _HANDLES)]
        ways = [bool(names), older_than_s is not None, check_flag("everything", everything)]
        if sum(ways) != 1:
            raise RequestError(
                f"Say what to remove: {argument('handles')}, {argument('older_than_s')} or "
                f"{argument('everything')}, and only one of them.",
                hint=f"See {call('list_results')} for what there is.",
            )
        if older_than_s is not None:
            older_than_s = check_number("older_than_s", older_than_s)
            if older_than_s < 0:
                raise RequestError(
                    f"{argument('older_than_s')} is {older_than_s:g}; it must be 0 or more.",
                    hint="Give an age in seconds.",
                )
        age_s = -math.inf if everything else older_than_s  # also what a wrong clock dated in the future
        return self._remove_results(names, age_s, check_flag("dry_run", dry_run), start_run(run))

    # ---- what an engine implements, with checked arguments ---------------------------------------

    @abstractmethod
    def _list_results(
        self, media: Any, kind: ResultKind | None, text: str, run: Run
    ) -> tuple[StoredResult, ...]: ...

    @abstractmethod
    def _load_result(self, handle: str, run: Run) -> AnswerResult | SegmentResult | CaptionResult: ...

    @abstractmethod
    def _remove_results(
        self, handles: Sequence[str], older_than_s: float | None, dry_run: bool, run: Run
    ) -> Removal: ...
