"""Holds the one model of an engine: loads it on first use and lets one run at a time use it."""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa2va_tools.engine.lane import Lane
from sa2va_tools.errors import MissingExtraError, Sa2vaError
from sa2va_tools.imports import pause_garbage_collection
from sa2va_tools.memory_errors import translate_memory_errors
from sa2va_tools.run import Run
from sa2va_tools.settings import Settings

if TYPE_CHECKING:
    from sa2va_tools.model.device.cache import CacheCounts
    from sa2va_tools.model.runtime.runtime import Sa2vaRuntime, Session

_POLL_S = 0.1
_RUNTIME = "sa2va_tools.model.runtime.runtime"
_PLACEMENT = "sa2va_tools.model.device.placement"


class ModelHost:
    """The checkpoint named at construction, in memory from the first `use` until `close`."""

    def __init__(self, model: str | Path, settings: Settings) -> None:
        self.model = model
        self.settings = settings
        self.lane = Lane()
        """Whoever uses the model has its turn in it."""
        self._runtime: Sa2vaRuntime | None = None
        self._identity: dict[str, Any] | None = None
        """Of the loaded model."""

    @contextmanager
    def use(self, run: Run) -> Iterator[Session]:
        """The loaded model, for this run alone. Raises what `session` does, CancelledError while waiting for
        the model, and RequestError from inside a running call."""
        with self.lane.turn("another call", run), self.session(run) as session:
            yield session

    @contextmanager
    def session(self, run: Run) -> Iterator[Session]:
        """The loaded model, for a caller that has its turn. Raises CheckpointError, MissingExtraError,
        CancelledError."""
        try:
            run.raise_if_cancelled()
            if self._runtime is None:
                identity = self._describe(run)
                self._runtime = self._load(run)
                self._identity = identity
            with self._runtime.session(run) as session:
                yield session
        except Sa2vaError as error:
            _clear_frames(error)
            raise

    def describe(self, run: Run) -> dict[str, Any]:
        """Everything about the model that a result depends on, as JSON values. Loads no weights. Raises what
        `session` does."""
        return self._identity or self._describe(run)

    def prepare(self) -> None:
        """Import the model's libraries, which takes seconds; the weights are loaded by the first call."""
        with (
            suppress(ModuleNotFoundError),
            pause_garbage_collection(),
        ):  # the first call tells what is missing
            import_module(_RUNTIME)

    def cache_counts(self) -> dict[str, CacheCounts]:
        """Hits, misses, entries and bytes by kind of entry; empty while no model is loaded."""
        runtime = self._runtime
        return {} if runtime is None else runtime.cache.counts()

    def close(self) -> None:
        """Release the weights after the calls before this one have ended; RequestError from inside one."""
        with self.lane.turn("closing", Run()):
            if self._runtime is None:
                return
            self._runtime = None
            self._identity = None
            gc.collect()  # the parts of a runtime refer to each other
            from sa2va_tools.model.device.memory_policy import release_device_memory

            release_device_memory()

    def _describe(self, run: Run) -> dict[str, Any]:
        """Of the model as its files are now."""
        if _PLACEMENT not in sys.modules:
            run.report("load", message="loading torch")
        with self._importing():
            _import_in_thread(_PLACEMENT, run)
        from sa2va_tools.model.checkpoints.revision import compute_revision, describe_files
        from sa2va_tools.model.checkpoints.safetensors_files import find_weight_files
        from sa2va_tools.model.device.placement import choose_devices, multiplies_bfloat16
        from sa2va_tools.model.hub.names import find_checkpoint, find_weights

        settings = self.settings
        folder = find_checkpoint(self.model)
        decoder = settings.sam2_decoder
        return {
            "name": str(self.model),
            "revision": compute_revision(folder, find_weight_files(folder)),
            "files": describe_files(folder),
            "devices": [str(device) for device in choose_devices(settings.device)],
            "dtype": settings.dtype,
            "bfloat16": multiplies_bfloat16(),
            "quantize": settings.quantize,
            "compile": settings.compile,
            "sam2_decoder": None if decoder is None else describe_files(find_weights(decoder)),
        }

    @contextmanager
    def _importing(self) -> Iterator[None]:
        """Missing libraries and a lack of memory as our own errors."""
        try:
            with translate_memory_errors():
                yield
        except ModuleNotFoundError as error:
            raise MissingExtraError((error.name or "torch").partition(".")[0], "engine") from error

    def _load(self, run: Run) -> Sa2vaRuntime:
        run.report("load", message=f"loading {self.model}")
        with self._importing():
            _import_runtime(run)
        from sa2va_tools.model.hub.names import find_checkpoint, find_weights
        from sa2va_tools.model.runtime.runtime import Sa2vaRuntime

        settings = self.settings
        if settings.compile:
            run.report("load", message="compiling SAM-2's image encoder; this takes minutes")
        decoder = settings.sam2_decoder
        with translate_memory_errors():
            return Sa2vaRuntime.load(
                find_checkpoint(self.model),
                name=str(self.model),
                device=settings.device,
                dtype=settings.dtype,
                quantize=settings.quantize,
                sam2_decoder=None if decoder is None else find_weights(decoder),
                compile=settings.compile,
                cache_bytes=settings.cache_bytes,
                run=run,
            )


def _import_runtime(run: Run) -> None:
    if not hasattr(sys.modules.get(_RUNTIME), "Sa2vaRuntime"):
        _import_in_thread(_RUNTIME, run)


def _import_in_thread(name: str, run: Run) -> None:
    """Because it takes seconds in which a cancel must be noticed. The import continues."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with pause_garbage_collection():
                import_module(name)
        except BaseException as error:  # noqa: BLE001  raised to the caller
            failures.append(error)

    thread = threading.Thread(target=work, name="import")
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_S)
        run.raise_if_cancelled()
    if failures:
        raise failures[0]


def _clear_frames(error: BaseException) -> None:
    """Whoever keeps the error must not keep the tensors of the calls that it and its causes came through."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
