"""Standard output and standard error that may be closed, full, or a pipe that nobody reads any more.

What cannot be printed is an error of its own kind, `OutputError`, wherever it happens: in a result, in
`--help`, or when Python flushes its buffers at the end. What cannot be written to standard error is dropped,
because there is nobody left to tell.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from sa2va_tools.errors import Sa2vaError

EXIT_FAILED, EXIT_BROKEN_PIPE = 1, 141
"""141 is what a program has that SIGPIPE ended (128 + 13)."""


class OutputError(Sa2vaError):
    """Standard output cannot be written."""

    code = "output"

    def __init__(self, error: OSError) -> None:
        self.is_broken_pipe = error.errno == errno.EPIPE
        is_closed = error.errno == errno.EBADF
        reason = "it is closed" if is_closed else (error.strerror or str(error))
        super().__init__(f"Standard output cannot be written: {reason}.")

    @property
    def exit_code(self) -> int:
        return EXIT_BROKEN_PIPE if self.is_broken_pipe else EXIT_FAILED


class _Output(io.TextIOWrapper):
    """Standard output whose failures are OutputError. After the first, what is left is thrown away."""

    def write(self, text: str, /) -> int:
        with self._reporting():
            return super().write(text)

    def flush(self) -> None:
        with self._reporting():
            super().flush()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._discard()
            raise OutputError(error) from error

    def _discard(self) -> None:
        """Let Python empty its buffers at the end without failing again."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


class _Errors(io.TextIOWrapper):
    """Standard error that drops what it cannot write."""

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


@contextlib.contextmanager
def guard_output() -> Iterator[None]:
    """Run a program whose standard streams may fail; a failure leaves the block as SystemExit.

    A terminal that cannot show a character shows a substitute.
    """
    _occupy_closed_descriptors()
    sys.stdout = out = _wrap(sys.stdout, 1, _Output)
    sys.stderr = _wrap(sys.stderr, 2, _Errors)
    try:
        try:
            yield
        finally:
            if not out.closed:
                out.flush()
    except OutputError as error:
        if not error.is_broken_pipe:
            sys.stderr.write("".join(f"{line}\n" for line in error.as_lines()))
        raise SystemExit(error.exit_code) from error


def _occupy_closed_descriptors() -> None:
    """Put something that can neither be read nor written in the place of standard streams that are closed.
    Otherwise a file of ours would get their numbers, and libraries would print into it."""
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number, which is this one


def _wrap(stream: TextIO | None, descriptor: int, kind: type[io.TextIOWrapper]) -> TextIO:
    """The stream as one of ours; Python has None for one that was closed. Others (in a test) stay."""
    if stream is None:
        return kind(open(descriptor, "wb", closefd=False), encoding="utf-8", errors="replace")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    return kind(
        stream.buffer, encoding=stream.encoding, errors="replace", line_buffering=stream.line_buffering
    )
