"""A queue in front of the one model: one call at a time, in the order in which they came, and those that wait
are told what runs, how far it is, and their place. Knows neither models nor results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from sa2va_tools.errors import RequestError
from sa2va_tools.run import Run

Result = TypeVar("Result")
_POLL_S = 0.1
CALLER: ContextVar[object] = ContextVar("sa2va_caller")
"""Who makes a call, where that is not the thread: in asyncio, one thread makes calls for many."""


def _find_caller() -> object:
    return CALLER.get(threading.get_ident())


@dataclass(eq=False, slots=True)
class _Place:
    """One call in the queue."""

    title: str
    run: Run
    caller: object = field(default_factory=_find_caller)


class Lane:
    """The queue. Any thread may use it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: list[_Place] = []
        """The first one runs, the others wait."""
        self._ended = 0

    @contextmanager
    def turn(
        self, title: str, run: Run, find: Callable[[], Result | None] = lambda: None
    ) -> Iterator[Result | None]:
        """Be the one call that runs, in this block, whose value is None.

        `find` looks for what the call is after, first without waiting, and again whenever a call has ended.
        Once it finds something, that is the value of the block, which then runs without its turn. Raises what
        `find` raises, CancelledError while waiting, and RequestError inside a turn of the same caller.
        """
        found = find()
        if found is not None:
            yield found
            return
        self.refuse_reentry()
        place = _Place(title, run)
        with self._condition:
            self._queue.append(place)
        try:
            yield self._wait(place, find)
        finally:
            with self._condition:
                self._queue.remove(place)
                self._ended += 1
                self._condition.notify_all()

    def refuse_reentry(self) -> None:
        """RequestError if this caller has its turn: it would wait for itself."""
        with self._condition:
            is_inside = bool(self._queue) and self._queue[0].caller == _find_caller()
        if is_inside:
            raise RequestError(
                "An engine cannot be called from its own on_progress callback or inside its own stream: it "
                "would wait for itself.",
                hint="Call it again after that call has ended.",
            )

    def _wait(self, place: _Place, find: Callable[[], Result | None]) -> Result | None:
        """What `find` found; None once it is this call's turn."""
        told = ""
        while True:
            with self._condition:
                number = self._queue.index(place)
                ended = self._ended
                running = self._queue[0]
            place.run.raise_if_cancelled()
            found = find()
            if number == 0 or found is not None:
                return found
            while self._ended == ended:
                text = f"{running.title} runs{_describe_progress(running.run)}; your place: {number}"
                if text != told:
                    place.run.report("waiting", message=text)
                    told = text
                with self._condition:
                    self._condition.wait_for(lambda: self._ended != ended, _POLL_S)  # noqa: B023
                place.run.raise_if_cancelled()


def _describe_progress(run: Run) -> str:
    """`, frame 412 of 1500`; empty before the first report."""
    last = run.last_progress
    return "" if last is None else f", {last.message or last.stage}"
