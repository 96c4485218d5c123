"""The queue in front of the model, without a model."""

from __future__ import annotations

import threading

import pytest

from sa2va_tools.engine.lane import Lane
from sa2va_tools.errors import CancelledError, RequestError
from sa2va_tools.run import Progress, Run


class Waiting:
    """A thread that takes its turn; `told` has what it was told while it waited."""

    def __init__(self, lane: Lane, order: list[str], title: str, find=lambda: None) -> None:
        self.told: list[str] = []
        self.heard = threading.Event()
        self.error: Exception | None = None
        self.found: object = "nothing yet"
        self.run = Run(self._hear)
        self._work = (lane, order, title, find)
        self.thread = threading.Thread(target=self._take_turn)
        self.thread.start()

    def _hear(self, progress: Progress) -> None:
        if progress.stage == "waiting":
            self.told.append(progress.message)
            self.heard.set()

    def _take_turn(self) -> None:
        lane, order, title, find = self._work
        try:
            with lane.turn(title, self.run, find) as self.found:
                order.append(title)
        except CancelledError as error:
            self.error = error


def test_turns_come_in_order_and_each_knows_its_place():
    lane, order, run = Lane(), [], Run()
    with lane.turn("segment of a.mp4", run):
        run.report("propagate", 412, 1500, "frame 412 of 1500")
        waiting = []
        for title in ("first", "second", "third"):
            waiting.append(Waiting(lane, order, title))
            assert waiting[-1].heard.wait(60)
        assert [each.told[0] for each in waiting] == [
            f"segment of a.mp4 runs, frame 412 of 1500; your place: {place}" for place in (1, 2, 3)
        ]
        assert order == []
    for each in waiting:
        each.thread.join(60)
    assert order == ["first", "second", "third"]


def test_a_waiting_call_moves_up_when_one_before_it_gives_up():
    lane, order = Lane(), []
    with lane.turn("long", Run()):
        first = Waiting(lane, order, "first")
        assert first.heard.wait(60)
        second = Waiting(lane, order, "second")
        assert second.heard.wait(60)
        second.heard.clear()
        first.run.cancel()
        first.thread.join(60)
        assert isinstance(first.error, CancelledError)
        assert second.heard.wait(60) and second.told[-1] == "long runs; your place: 1"
    second.thread.join(60)
    assert order == ["second"]


def test_what_is_found_meanwhile_needs_no_turn():
    lane, order, stored = Lane(), [], {}
    with lane.turn("long", Run()):
        same = Waiting(lane, order, "same", find=lambda: stored.get("answer"))
        assert same.heard.wait(60)
        other = Waiting(lane, order, "gives up")
        assert other.heard.wait(60)
        stored["answer"] = 42
        other.run.cancel()  # a call ends, so the others look again
        same.thread.join(60)
        assert same.found == 42
        with lane.turn("stored", Run(), lambda: 7) as found:
            assert found == 7
    other.thread.join(60)


def test_a_call_from_inside_its_own_turn_is_refused_and_the_lane_works_on():
    lane = Lane()
    refused = pytest.raises(RequestError, match="own on_progress callback")
    with lane.turn("one", Run()), refused, lane.turn("another", Run()):
        pass
    with lane.turn("next", Run()) as found:
        assert found is None


def test_an_error_in_a_turn_frees_the_lane():
    lane = Lane()
    with pytest.raises(ZeroDivisionError), lane.turn("one", Run()):
        raise ZeroDivisionError
    with lane.turn("next", Run()):
        pass
