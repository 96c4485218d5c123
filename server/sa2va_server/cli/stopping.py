"""What ends a command from outside: Ctrl-C, and the signals by which systems and terminals end programs.

All of them do what Ctrl-C does: the work cleans up, so that no half-written file and no temporary folder is
left. Only the exit code tells them apart: 128 and the signal's number, that is 130 for Ctrl-C, 143 for
SIGTERM and 129 for SIGHUP.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from sa2va_tools import atomic
from sa2va_tools.run import Progress, ProgressCallback, Run

_UNINTERRUPTIBLE_STAGES = frozenset({"load"})
"""Stages with long steps (imports, mapping of files) that do not check whether the run was cancelled."""
_LIKE_CTRL_C = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Windows has no SIGHUP."""


class StopSignals:
    """Stops one command. Only the main thread receives signals; in another one this does nothing."""

    def __init__(self) -> None:
        self.received: int | None = None
        """The first signal: whatever fails afterwards fails because of it."""
        self._is_checking = False

    @property
    def exit_code(self) -> int:
        """Of a command that was stopped."""
        return 128 + (self.received or signal.SIGINT)

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """During the block, the other signals do what Ctrl-C does. Those that are ignored (`nohup`) stay
        ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        replaced = {}
        try:
            for number in _LIKE_CTRL_C:
                if signal.getsignal(number) is signal.SIG_DFL:
                    replaced[number] = signal.signal(number, self._act_like_ctrl_c)
            yield
        finally:
            for number, handler in replaced.items():
                signal.signal(number, handler)

    def _act_like_ctrl_c(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # Ctrl-C is ignored, as in a script's background jobs
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    @contextlib.contextmanager
    def watch(self, on_progress: ProgressCallback | None) -> Iterator[Run]:
        """A run that the signals stop until the end of the block.

        The first signal cancels the run, so that the work can clean up. It raises KeyboardInterrupt instead
        if the work would not notice: before its first report, and in stages that do not check. So does the
        second.
        """

        def note(progress: Progress) -> None:
            self._is_checking = progress.stage not in _UNINTERRUPTIBLE_STAGES
            if on_progress is not None:
                on_progress(progress)

        run = Run(note)
        self._is_checking = False
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield run
            return

        def stop(number: int, _: FrameType | None) -> None:
            can_wait = self._is_checking and not run.cancelled
            self.received = self.received or number
            run.cancel()
            if not can_wait:
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, stop)
        try:
            yield run
        finally:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def end_at_once() -> Iterator[None]:
    """During the block, the signals end the process after its unfinished files are deleted. For a server: a
    thread of it that waits for input would keep the process alive."""

    def end(number: int, _: FrameType | None) -> None:
        atomic.remove_unfinished(finally_=True)
        os._exit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *_LIKE_CTRL_C):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ignore_signals() -> Iterator[None]:
    """While the command cleans up, nothing interrupts it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, *_LIKE_CTRL_C)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
