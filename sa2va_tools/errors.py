"""Every error that sa2va-tools raises on purpose.

    Sa2vaError
    ├── MediaError                  the image, video or folder cannot be used
    │   ├── MediaNotFoundError      nothing is at that path (inside the allowed roots)
    │   ├── MediaUnreadableError    empty, truncated, corrupt, or of a kind we do not read
    │   └── MediaTooLargeError      over a cap on bytes, pixels, frames or seconds
    ├── AccessDeniedError           outside the allowed roots, whether or not it exists
    ├── RequestError                an argument is wrong: empty expression, frame out of range, …
    │   ├── UnknownHandleError      a handle that this store has never issued
    │   ├── WrongTypeError          an argument has a type that is not accepted (also a TypeError)
    │   ├── UnknownObjectError      a result has no such object or frame (also a KeyError and an IndexError)
    │   └── UnsupportedAbilityError the checkpoint cannot do what was asked
    ├── CheckpointError             a model folder cannot be used
    │   ├── CheckpointNotFoundError no checkpoint of that name or at that path
    │   ├── UnsupportedCheckpointError  a family or format that we do not run
    │   └── CheckpointMismatchError keys or shapes differ from what the config promises
    ├── StoreError                  the store on disk cannot be read or written
    ├── OutOfMemoryError            the job does not fit, with the numbers
    ├── CancelledError              the caller cancelled the job
    └── MissingExtraError           an optional dependency is not installed

An error says what was wrong and what was expected; `hint` says what to do next. Both are
written for a reader that sees nothing else, often a language model.
"""

from __future__ import annotations

import copyreg
from typing import Any

from sa2va_tools.printable import make_printable
from sa2va_tools.wording import PYTHON, Vocabulary, Wording


class Sa2vaError(Exception):
    """Base of the family. `message` is what went wrong, `hint` the next step (may be empty).

    Both are one line of printable text. Names of arguments, methods and settings in them (see `wording`) are
    spelled as in Python until a front end gives its own vocabulary to `spell`.
    """

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        self._message = Wording.read(message)
        self._hints = [Wording.read(hint)]
        self.spell(PYTHON)
        super().__init__(str(self))

    @property
    def message(self) -> str:
        return self._spelled[0]

    @property
    def hint(self) -> str:
        return self._spelled[1]

    def spell(self, vocabulary: Vocabulary) -> None:
        """Use the words of a front end from now on."""
        hints = (make_printable(hint.spell(vocabulary)) for hint in self._hints)
        self._spelled = make_printable(self._message.spell(vocabulary)), " ".join(filter(None, hints))

    def add_hint(self, hint: str) -> None:
        """Append a sentence to the hint. What is spelled for a front end is to be spelled again."""
        self._hints.append(Wording.read(hint))
        self.spell(PYTHON)

    def as_lines(self) -> list[str]:
        """For people at a terminal: a line each for message and hint."""
        return [f"error: {self.message}", *([f"hint: {self.hint}"] if self.hint else [])]

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        # Without calling __init__, whose arguments differ between the classes.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class MediaError(Sa2vaError):
    """The image, video or folder of frames cannot be used."""

    code = "media"


class MediaNotFoundError(MediaError):
    """Nothing is at that path, inside the allowed roots."""

    code = "media_not_found"


class MediaUnreadableError(MediaError):
    """Empty, truncated or corrupt data, or a kind of file that is not read."""

    code = "media_unreadable"


class MediaTooLargeError(MediaError):
    """Over a cap on bytes, pixels, frames or seconds."""

    code = "media_too_large"


class AccessDeniedError(Sa2vaError):
    """Outside the allowed roots; the answer does not tell whether the file exists."""

    code = "access_denied"


class RequestError(Sa2vaError):
    """An argument is wrong."""

    code = "bad_request"


class WrongTypeError(RequestError, TypeError):
    """An argument has a type that is not accepted. Also what Python raises for a wrong type."""

    code = "wrong_type"


class UnknownHandleError(RequestError):
    """A handle that this store has never issued, or has let go."""

    code = "unknown_handle"


class UnknownObjectError(RequestError, KeyError, IndexError):
    """A result has no object of that name or number. Also what Python raises for a wrong key or index."""

    code = "unknown_object"

    def __str__(self) -> str:
        return Exception.__str__(self)  # that of KeyError puts the text into quotes


class UnsupportedAbilityError(RequestError):
    """The loaded checkpoint cannot do what was asked."""

    code = "unsupported_ability"


class CheckpointError(Sa2vaError):
    """A model folder cannot be used."""

    code = "checkpoint"


class CheckpointNotFoundError(CheckpointError):
    """No checkpoint of that name or at that path."""

    code = "checkpoint_not_found"


class UnsupportedCheckpointError(CheckpointError):
    """A family or a file format that is recognised but not run, or not recognised."""

    code = "checkpoint_unsupported"


class CheckpointMismatchError(CheckpointError):
    """Keys or shapes in the files differ from what the config promises."""

    code = "checkpoint_mismatch"


class StoreError(Sa2vaError):
    """The store on disk cannot be read or written."""

    code = "store"


class OutOfMemoryError(Sa2vaError):
    """The job does not fit into memory."""

    code = "out_of_memory"


class CancelledError(Sa2vaError):
    """The caller cancelled the job; nothing of it is kept."""

    code = "cancelled"


class MissingExtraError(Sa2vaError, ModuleNotFoundError):
    """An optional dependency is not installed."""

    code = "missing_extra"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"This needs the package {package!r}, which is not installed.",
            hint=f'Install it with: pip install "sa2va-tools[{extra}]"',
        )
        self.name = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """So that the error passes from one process to another."""
        return type(self), (str(self.name), self.extra)
