"""What every command of the CLI shares: common options, opening the engine, progress bars, Ctrl-C,
and how errors become one sentence and an exit code. Knows nothing of what a command does.

Exit codes: 0 done (not found is an answer), 1 failed, 2 wrong arguments, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from sa2va_tools import shortage
from sa2va_tools.errors import CancelledError, MissingExtraError, RequestError, Sa2vaError
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress

if TYPE_CHECKING:
    from sa2va_tools.engine.protocol import Engine
    from sa2va_tools.settings import Settings

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
_DEAF_STAGES = frozenset({"load"})
"""Stages of the engine whose work (imports, mapping files) does not look at the cancel token."""

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantize = Literal["int8", "nf4"]
OpenEngine = Callable[["Settings"], "Engine"]
"""What opens an engine; tests hand in their own as the `obj` of the app's context."""

_EXTRA_OF_PACKAGE = {
    "torch": "engine",
    "transformers": "engine",
    "safetensors": "engine",
    "sentencepiece": "engine",
    "tokenizers": "engine",
    "huggingface_hub": "engine",
    "mcp": "server",
    "anyio": "server",
    "bitsandbytes": "quantize",
    "sam2": "sam2",
    "hydra": "sam2",
    "iopath": "sam2",
    "matplotlib": "train",
}

_PANEL = "Common options"
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="nano|ID|DIR",
        help="Checkpoint: nano, a hub id that was pulled, or a folder.",
        rich_help_panel=_PANEL,
    ),
]


def _device(wish: str | None) -> str | None:
    from sa2va_tools.settings import DEVICE_PATTERN

    if wish is not None and not re.match(DEVICE_PATTERN, wish):
        raise typer.BadParameter(f"{wish!r} is none of auto, cpu, cuda, mps, cuda:1, cuda:0,cuda:1.")
    return wish


DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        callback=_device,
        metavar="auto|cpu|cuda|mps",
        help="Where the model runs; cuda:0,cuda:1 spreads it over GPUs.",
        rich_help_panel=_PANEL,
    ),
]
DtypeOption = Annotated[Dtype | None, typer.Option("--dtype", rich_help_panel=_PANEL)]
QuantizeOption = Annotated[
    Quantize | None,
    typer.Option("--quantize", help="The language model's layers in 8 or 4 bits.", rich_help_panel=_PANEL),
]
DecoderOption = Annotated[
    str | None,
    typer.Option(
        "--sam2-decoder",
        metavar="ID|FILE",
        help="Stock SAM-2 weights, for mode sa2va-i with a plain Sa2VA checkpoint.",
        rich_help_panel=_PANEL,
    ),
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Where handles are kept.", rich_help_panel=_PANEL),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=_PANEL)
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.", rich_help_panel=_PANEL)]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PANEL)
]


@dataclass(frozen=True, slots=True)
class Session:
    """The common options of one call of a command, and what is made of them."""

    model: str | None = None
    device: str | None = None
    dtype: Dtype | None = None
    quantize: Quantize | None = None
    sam2_decoder: str | None = None
    store: Path | None = None
    as_json: bool = False
    quiet: bool = False
    debug: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    """The real stdout: during the work `sys.stdout` points to stderr."""
    opener: OpenEngine | None = None
    subcommand: str | None = None
    """Of a group's own call: the command of it that comes next."""
    cancel: CancelToken = field(default_factory=CancelToken)
    """Set by Ctrl-C: whatever goes wrong afterwards, the user has stopped it."""

    def settings(self) -> Settings:
        """The environment's settings, with the options over them."""
        from sa2va_tools.settings import Settings

        given: dict[str, Any] = {
            "model": self.model,
            "device": self.device,
            "dtype": self.dtype,
            "quantize": self.quantize,
            "sam2_decoder": self.sam2_decoder,
            "store_dir": self.store,
        }
        return Settings.read(**{name: value for name, value in given.items() if value is not None})

    def open_engine(self, settings: Settings | None = None) -> Engine:
        """An engine that may read whatever the user names."""
        settings = settings or self.settings()
        if self.opener is not None:
            return self.opener(settings)
        from sa2va_tools.engine.protocol import Engine

        return Engine.load(settings=settings)

    @contextlib.contextmanager
    def working(self) -> Iterator[tuple[ProgressCallback, CancelToken]]:
        """Progress bars (on a terminal) and Ctrl-C for one piece of work."""
        ctrl_c = _CtrlC(self.cancel)
        with ctrl_c.heard(), self._bars() as on_progress:
            yield ctrl_c.noting(on_progress), self.cancel

    def emit_json(self, document: Any) -> None:
        """Write one JSON document to the real stdout."""
        self.out.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")
        self.out.flush()

    def tell(self, error: Sa2vaError) -> None:
        """Write the error to stderr: a sentence and a hint, with `--debug` the traceback before them."""
        if self.debug:
            traceback.print_exception(error, file=sys.stderr)
        sys.stderr.write(f"error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"hint: {error.hint}\n")

    @contextlib.contextmanager
    def _bars(self) -> Iterator[ProgressCallback]:
        if self.quiet or self.as_json or not sys.stderr.isatty():
            yield ignore_progress
            return
        from sa2va_server.cli_progress import stage_bars

        with stage_bars() as on_progress:
            yield on_progress


class _CtrlC:
    """The first Ctrl-C asks the work to stop, the second does not ask. Nor does the first one where
    nobody would hear it: before the engine has said anything, and while libraries and weights load."""

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel
        self._is_polled = False

    def noting(self, on_progress: ProgressCallback) -> ProgressCallback:
        """The callback, its stages noted on the way."""

        def report(progress: Progress) -> None:
            self._is_polled = progress.stage not in _DEAF_STAGES
            on_progress(progress)

        return report

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Within the block this is what Ctrl-C does; of signals only the main thread hears."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _stop(self, _: int, __: FrameType | None) -> None:
        asks = self._is_polled and not self._cancel.cancelled
        self._cancel.cancel()
        if not asks:
            raise KeyboardInterrupt


def with_session(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first argument is a Session, the common options and the error handling.

    Typer reads options from the signature, so the wrapper carries the command's own parameters and
    the common ones.
    """

    @functools.wraps(command)
    def wrapper(context: typer.Context, **values: Any) -> None:
        common = {name: values.pop(name) for name in _COMMON}
        session = Session(**common, out=sys.stdout, opener=context.obj, subcommand=context.invoked_subcommand)
        code = run_guarded(session, lambda: command(session, **values))
        if code:
            raise typer.Exit(code)

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    ]
    parameters += [each.replace(kind=keyword_only) for each in own]
    parameters += [
        inspect.Parameter(name, keyword_only, default=default, annotation=kind)
        for name, (kind, default) in _COMMON.items()
    ]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapper


_COMMON: dict[str, tuple[Any, Any]] = {
    "model": (ModelOption, None),
    "device": (DeviceOption, None),
    "dtype": (DtypeOption, None),
    "quantize": (QuantizeOption, None),
    "sam2_decoder": (DecoderOption, None),
    "store": (StoreOption, None),
    "as_json": (JsonOption, False),
    "quiet": (QuietOption, False),
    "debug": (DebugOption, False),
}


def run_guarded(session: Session, work: Callable[[], None]) -> int:
    """Do the work with stdout kept for its result; what goes wrong becomes words and an exit code."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            work()
    except (typer.Exit, BrokenPipeError):
        raise
    except (CancelledError, KeyboardInterrupt):
        return _stopped()
    except Exception as error:  # noqa: BLE001 - outermost handler: a person gets a sentence, not a traceback
        # What is interrupted may fail in its own words: a half-done import, a torn read.
        return _stopped() if session.cancel.cancelled else _failed(session, _as_ours(error))
    return 0


def _stopped() -> int:
    sys.stderr.write("Stopped.\n")
    return EXIT_INTERRUPTED


def _as_ours(error: Exception) -> Sa2vaError:
    """The error itself if it is of our family, else one that wraps it."""
    if isinstance(error, Sa2vaError):
        return error
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    wrapped = (
        MissingExtraError(package, _EXTRA_OF_PACKAGE[package])
        if package in _EXTRA_OF_PACKAGE
        else shortage.told(error)
        or Sa2vaError(
            f"Unexpected {type(error).__name__}: {error}",
            hint="This is a fault of sa2va-tools. Run the same command with --debug for the traceback.",
        )
    )
    wrapped.__cause__ = error
    return wrapped


def _failed(session: Session, error: Sa2vaError) -> int:
    session.tell(error)
    if session.as_json:
        session.emit_json({"error": error_json(error.code, error.message, error.hint)})
    return EXIT_USAGE if isinstance(error, RequestError) else EXIT_FAILED


def error_json(code: str, message: str, hint: str) -> dict[str, str]:
    """An error as `--json` gives it, under the key `error`."""
    return {"code": code, "message": message, "hint": hint}
