"""How long work reports and how it is stopped. Knows nothing of what the work is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sa2va_tools.errors import CancelledError


@dataclass(frozen=True, slots=True)
class Progress:
    """One report: `done` of `total` units of `stage` ("load", "look", "answer", "plan", "propagate", …).

    `total` is None where the length is not known beforehand (words of an answer).
    """

    stage: str
    done: int
    total: int | None = None
    message: str = ""
    text: str | None = None
    """Of an answer that is being written: what can be read so far, a beginning of the text to come (but where
    memory runs short it begins anew). As the answer itself, it is data that a model read out of pixels. None
    where no text comes of the stage."""


ProgressCallback = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """The callback of a caller who does not want to know."""


class CancelToken:
    """Set from any thread; the working thread polls it at least once per frame and per token."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises CancelledError once `cancel` was called."""
        if self._event.is_set():
            raise CancelledError("The job was cancelled.", hint="Call again to start it anew.")


def unhindered() -> None:
    """The check of work that nobody cancels."""


def check_of(cancel: CancelToken | None) -> Callable[[], None]:
    """What long work calls between two steps; raises CancelledError once it is cancelled."""
    return unhindered if cancel is None else cancel.raise_if_cancelled
