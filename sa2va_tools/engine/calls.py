"""Calls that are answered once: a call whose answer is in the store is not computed again, and of the others
one at a time uses the model.

Two calls are the same if everything is the same that their answers can depend on: what is asked, with which
options, of which content and frames, by which checkpoint, in which numbers, and by which version of the code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import sa2va_tools
from sa2va_tools.engine.call_outcome import describe_outcome, restore_result
from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.lane import Lane
from sa2va_tools.engine.library import Library, OpenedMedia
from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.options import FrameRange
from sa2va_tools.engine.results import AnswerResult, CaptionResult, SegmentResult
from sa2va_tools.errors import StoreError
from sa2va_tools.run import Run
from sa2va_tools.store.calls import CallIndex
from sa2va_tools.store.handles import compute_digest
from sa2va_tools.store.records import Json, media_to_json

Result = TypeVar("Result", AnswerResult, CaptionResult, SegmentResult)
_RANGE = frozenset(FrameRange.__dataclass_fields__)
_NAMES = frozenset({"path", "files"})
"""Where media are, which no answer depends on."""
_LIBRARIES = ("av", "numpy", "opencv-python-headless", "pillow", "tokenizers", "torch", "transformers")
"""Distributions whose version may change a result."""


@dataclass(frozen=True)
class Call:
    """What is asked of which frames."""

    kind: str
    """`describe`, `segment`, `ground`, `caption`, `track` or `extend`."""
    opened: OpenedMedia
    clip: Clip
    details: Mapping[str, Any]
    """JSON values, also NumPy's numbers: all the rest that the answer depends on."""
    run: Run

    @classmethod
    def of(cls, kind: str, opened: OpenedMedia, clip: Clip, asked: Mapping[str, Any]) -> Call:
        """A call that asks this, as JSON values. The range of frames may be among them: the clip stands for
        it."""
        details = {name: value for name, value in asked.items() if name not in _RANGE}
        return cls(kind, opened, clip, details, clip.run)

    @property
    def title(self) -> str:
        """For those that wait for it."""
        return f"{self.kind} of {self.opened.ref.name}"

    @cached_property
    def digest(self) -> str:
        """Of everything but the model and the code. Computed once, because long videos have many frames."""
        media = media_to_json(self.opened.media)
        content = {
            "kind": self.kind,
            "media": {name: value for name, value in media.items() if name not in _NAMES},
            "frames": self.clip.frame_indices,
            "details": self.details,
        }
        return compute_digest(_as_json(content), self.run)


class Calls:
    """Answers calls, from the store if it can.

    `describe_model` gives, as JSON values, what about the model an answer depends on. Without `reuse`, every
    call is computed, and its answer is what later calls with `reuse` get.
    """

    def __init__(
        self, library: Library, lane: Lane, describe_model: Callable[[Run], Json], *, reuse: bool
    ) -> None:
        self._library = library
        self._lane = lane
        self._describe_model = describe_model
        self._reuse = reuse
        self._index = CallIndex(library.store.root / "v3" / "call")

    def answer(self, call: Call, compute: Callable[[], Result]) -> Result:
        """The stored answer, or else what `compute` returns, with the model for this call alone. An equal
        call that comes first is waited for, and its answer taken."""
        with self._lane.turn(call.title, call.run, lambda: self._find(call)) as found:
            if found is not None:
                return found  # type: ignore[return-value]  # one kind of call has one kind of result
            # Remembered before the next call has its turn: it may be the same.
            return self._remember(call, compute())

    def stream(
        self, call: Call, frames: Generator[FrameResult, None, SegmentResult]
    ) -> Generator[FrameResult, None, SegmentResult]:
        """`frames`, made with the model for this call alone, whatever is stored."""
        with self._lane.turn(call.title, call.run), closing(frames):
            result = yield from frames
            return self._remember(call, result)

    def _remember(self, call: Call, result: Result) -> Result:
        """Note that this is the answer to the call. It is complete, and in the store already; if the note
        cannot be written, it has a warning."""
        try:
            self._index.put(self._request(call), describe_outcome(result))
        except StoreError as error:
            warning = f"{error.message} The same call will be computed again."
            return replace(result, warnings=(*result.warnings, warning))
        return result

    def _find(self, call: Call) -> AnswerResult | CaptionResult | SegmentResult | None:
        outcome = self._index.find(self._request(call)) if self._reuse else None
        return None if outcome is None else restore_result(outcome, self._library, call.opened, call.run)

    def _request(self, call: Call) -> Json:
        return {"call": call.digest, "model": self._describe_model(call.run), "code": _describe_code()}


def _as_json(value: Any) -> Any:
    """Plain numbers for NumPy's, which callers may give as options."""
    if isinstance(value, Mapping):
        return {name: _as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


@cache
def _describe_code() -> Json:
    """This package's source, so that whoever changes it gets new results, and versions of libraries."""
    folder = Path(sa2va_tools.__file__).parent
    sha = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        sha.update(f"{file.relative_to(folder).as_posix()}\0".encode())
        sha.update(file.read_bytes())
    return {"source": sha.hexdigest(), "version": sa2va_tools.__version__, **_find_versions()}


def _find_versions() -> dict[str, str]:
    """Of those libraries that are installed."""
    installed = {}
    for name in _LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
