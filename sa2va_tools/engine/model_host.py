"""Holds the one model of an engine: loads it at first use, lets one job at a time use it."""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sa2va_tools.engine.speed_notes import SpeedNotes, Walk
from sa2va_tools.errors import MissingExtraError, RequestError, Sa2vaError
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback
from sa2va_tools.settings import Settings
from sa2va_tools.shortage import telling

if TYPE_CHECKING:
    from sa2va_tools.model.cache import CacheCounts
    from sa2va_tools.model.runtime import Sa2vaRuntime

_POLL_S = 0.1
_RUNTIME = "sa2va_tools.model.runtime"


class ModelHost:
    """The checkpoint named at birth, in memory from the first `use` until `close`."""

    def __init__(self, model: str | Path, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self._turn = threading.Lock()
        self._holder: int | None = None
        self._runtime: Sa2vaRuntime | None = None
        self._notes = SpeedNotes(settings.store_dir)
        self._known_walks: tuple[Walk, ...] = ()

    @contextmanager
    def use(self, on_progress: ProgressCallback, cancel: CancelToken | None) -> Iterator[Sa2vaRuntime]:
        """The loaded model, for this job alone. Raises CheckpointError, MissingExtraError, and
        CancelledError also while it waits for its turn; RequestError from inside of a running job."""
        self._refuse_itself()
        while not self._turn.acquire(timeout=_POLL_S):
            _check(cancel)
        try:
            self._holder = threading.get_ident()
            _check(cancel)
            if self._runtime is None:
                self._runtime = self._load(on_progress, cancel)
                self._known_walks = tuple(self._notes.of(self._speed_name(self._runtime)))
                self._runtime.speed.recall(self._known_walks)
            with self._runtime.at_work(cancel):
                yield self._runtime
        except Sa2vaError as error:
            _clear_frames(error)
            raise
        finally:
            self._holder = None
            self._turn.release()

    def prepare(self) -> None:
        """Import the model's libraries, which takes seconds; the weights wait for the first call."""
        with suppress(ModuleNotFoundError), _collector_at_rest():  # told by the first call
            import_module(_RUNTIME)

    def cache_counts(self) -> dict[str, CacheCounts]:
        """Hits, misses, entries and bytes by kind of what is kept; empty while no model is loaded."""
        runtime = self._runtime
        return {} if runtime is None else runtime.cache.counts()

    def close(self) -> None:
        """Let go of the weights, once the running job has ended; RequestError from inside of it."""
        self._refuse_itself()
        with self._turn:
            if self._runtime is None:
                return
            walks = self._runtime.speed.walks
            if walks != self._known_walks:
                self._notes.keep(self._speed_name(self._runtime), walks)
            self._runtime = None
            gc.collect()  # a runtime's parts know each other
            from sa2va_tools.model.out_of_memory import release

            release()

    def _refuse_itself(self) -> None:
        if self._holder == threading.get_ident():
            raise RequestError(
                "This engine is at work in this very call, and would wait for itself.",
                hint="Ask again when the call has ended, not from its on_progress.",
            )

    def _speed_name(self, runtime: Sa2vaRuntime) -> str:
        """Of all that its speed depends on, machine and other work apart."""
        facts = runtime.facts
        ways = f"compiled={self.settings.compile_encoder} threads={self.settings.threads}"
        return f"{runtime.revision} {facts.device} {facts.dtype} {ways}"

    def _load(self, on_progress: ProgressCallback, cancel: CancelToken | None) -> Sa2vaRuntime:
        on_progress(Progress("load", 0, None, f"loading {self.model}"))
        try:
            with telling():
                _import_runtime(cancel)
        except ModuleNotFoundError as error:
            raise MissingExtraError((error.name or "torch").partition(".")[0], "engine") from error
        from sa2va_tools.model.checkpoints import checkpoint_folder, weights_place
        from sa2va_tools.model.runtime import Sa2vaRuntime

        if self.settings.compile_encoder:
            on_progress(Progress("load", 0, None, "compiling SAM-2's image encoder: this takes minutes"))
        stock = self.settings.sam2_decoder
        return Sa2vaRuntime.load(
            checkpoint_folder(self.model),
            name=str(self.model),
            device=self.settings.device,
            dtype=self.settings.dtype,
            encoder_dtype=self.settings.encoder_dtype,
            attention_dtype=self.settings.attention_dtype,
            fast_tracking=self.settings.fast_tracking,
            compile_encoder=self.settings.compile_encoder,
            quantize=self.settings.quantize,
            threads=self.settings.threads,
            sam2_decoder=None if stock is None else weights_place(stock),
            grounding=self.settings.grounding,
            cache_bytes=self.settings.cache_bytes,
            cancel=cancel,
            on_file=lambda done, total: on_progress(Progress("load", done, total, f"loading {self.model}")),
        )


def _import_runtime(cancel: CancelToken | None) -> None:
    """In a thread of its own, for it takes seconds in which a cancel is to be heard; it goes on then."""
    if hasattr(sys.modules.get(_RUNTIME), "Sa2vaRuntime"):
        return
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with _collector_at_rest():
                import_module(_RUNTIME)
        except BaseException as error:  # noqa: BLE001  raised to the caller
            failures.append(error)

    thread = threading.Thread(target=work, name="import")
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_S)
        _check(cancel)
    if failures:
        raise failures[0]


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Importing torch and transformers makes millions of objects and drops none: a tenth of its time
    goes into garbage collections that find nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _clear_frames(error: BaseException) -> None:
    """Whoever keeps the error, as a test or a record does, would keep the tensors of the calls that it, and
    those behind it, came through."""
    behind: BaseException | None = error
    while behind is not None:
        traceback.clear_frames(behind.__traceback__)
        behind = behind.__cause__ or behind.__context__


def _check(cancel: CancelToken | None) -> None:
    if cancel is not None:
        cancel.raise_if_cancelled()
