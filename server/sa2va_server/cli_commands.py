"""What the commands do once they are parsed: run a tool of the catalogue and show what it gave.

Imported by a command when it runs, so that `sa2va --help` stays quick.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from sa2va_server.cli_export import is_that_media, output_folder, write_masks
from sa2va_server.cli_output import (
    caption_lines,
    describe_lines,
    file_lines,
    ground_lines,
    masks_lines,
    media_line,
    printable,
    warning_lines,
)
from sa2va_server.cli_picture import picture_format, write_picture
from sa2va_server.cli_session import EXIT_FAILED, Session, error_json
from sa2va_tools import atomic
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import RequestError, Sa2vaError
from sa2va_tools.tools.base import ToolOutput
from sa2va_tools.tools.catalogue import tool_named
from sa2va_tools.tools.outputs import CaptionsResult, DescribeResult, GroundResult, MasksResult
from sa2va_tools.tools.reporting import media_out

VIEW_MAX_BYTES = 50_000_000
"""A person's file needs no cap; an agent's picture does."""


def say(session: Session, lines: Iterable[str]) -> None:
    """Lines of the result, on the real stdout."""
    for line in lines:
        session.out.write(line + "\n")
    session.out.flush()


def masks_command(session: Session, tool_name: str, raw: Mapping[str, Any], out: Path | None) -> None:
    """`segment` and `track`."""
    ran = _run_tool(session, tool_name, raw, out)
    result = _as(MasksResult, ran.output)
    _show_masks(session, ran, result, masks_lines(result), out)


def ground_command(session: Session, raw: Mapping[str, Any], out: Path | None) -> None:
    ran = _run_tool(session, "ground_conversation", raw, out)
    result = _as(GroundResult, ran.output)
    _show_masks(session, ran, result, ground_lines(result), out)


def describe_command(session: Session, raw: Mapping[str, Any]) -> None:
    output = _run_tool(session, "describe", raw, None).output
    _show(session, output, lambda: describe_lines(_as(DescribeResult, output)))


def caption_command(session: Session, raw: Mapping[str, Any]) -> None:
    output = _run_tool(session, "caption_region", raw, None).output
    _show(session, output, lambda: caption_lines(_as(CaptionsResult, output)))


def view_command(
    session: Session,
    handles: Sequence[str],
    frame: int | None,
    max_frames: int,
    max_side: int,
    out: Path | None,
) -> None:
    """Write one picture. Without `out` it is named after the first handle or file, in the working
    folder. RequestError where it would stand in the place of what is viewed."""
    path = out or Path(_picture_name(handles[0]))
    picture_format(path)
    if any(not _is_handle(handle) and Path(handle).resolve() == path.resolve() for handle in handles):
        raise RequestError(f"{path} is what is to be viewed.", hint="Give --out another name.")
    with session.open_engine() as engine:
        shown = [handle if _is_handle(handle) else engine.media_of(handle).handle for handle in handles]
        result = engine.view(
            shown, frame_index=frame, max_frames=max_frames, max_side=max_side, max_bytes=VIEW_MAX_BYTES
        )
        if is_that_media(engine, path, result.media.handle):
            raise RequestError(f"{path} is what is to be viewed.", hint="Give --out another name.")
    write_picture(path, result.image, result.mime_type)
    media = media_out(result.media)
    if session.as_json:
        legend = [{"number": n, "handle": handle, "label": label} for n, handle, label in result.legend]
        session.emit_json(
            {
                "file": str(path),
                "size_wh": list(result.size_wh),
                "legend": legend,
                "frames": list(result.frames),
                "scale": result.scale,
                "media": media.model_dump(mode="json", exclude_none=True),
                "warnings": list(result.warnings),
            }
        )
        return
    lines = [media_line(media)]
    lines += [f"  {number}  {printable(label)}  {handle}" for number, handle, label in result.legend]
    say(session, [*lines, f"Written: {printable(str(path))}", *warning_lines(result.warnings)])


def mcp_command(session: Session, roots: Sequence[Path]) -> None:
    """Serve until the client hangs up; stdout is the protocol's channel."""
    from sa2va_server.mcp_server import serve_stdio

    settings = session.settings()
    given = [Path(root).expanduser() for root in roots or settings.roots]
    missing = [str(root) for root in given if not root.is_dir()]
    if missing:
        raise RequestError(
            f"There is no folder at {', '.join(missing)}.",
            hint="Give --root the path of a folder that exists.",
        )
    real = tuple(root.resolve() for root in given)
    with contextlib.redirect_stdout(session.out):
        serve_stdio(lambda: _engine_within(session, real), roots=real)


def train_command(
    session: Session, out: Path, *, smoke: bool, share: float | None, seed: int, workers: int | None
) -> None:
    """Train into `out`, or go on where an earlier run of the same folder was stopped."""
    from sa2va_tools.training.nano import train_nano

    with session.working() as (on_progress, cancel):
        trained = train_nano(
            out,
            smoke=smoke,
            share=share,
            seed=seed,
            workers=workers,
            device=session.settings().device,
            on_progress=on_progress,
            cancel=cancel,
        )
    if session.as_json:
        losses = {stage: asdict(fall) for stage, fall in trained.losses.items()}
        session.emit_json({"checkpoint": str(trained.checkpoint), "run": str(trained.run), "losses": losses})
        return
    fell = (f"{stage} {fall.first:.2f} to {fall.last:.2f}" for stage, fall in trained.losses.items())
    say(
        session,
        [
            f"Loss, first to last third: {', '.join(fell)}",
            f"Logs, curves and states: {trained.run}",
            f"Checkpoint: {trained.checkpoint}",
        ],
    )


def eval_command(
    session: Session, *, n: int, foreign: int, workers: int | None, seed: int | None, out: Path | None
) -> None:
    """Print the scores; with `out` also write them there as JSON."""
    from sa2va_tools.evaluation.nano_cases import EXAM_SEED
    from sa2va_tools.evaluation.nano_eval import evaluate_nano
    from sa2va_tools.model.checkpoints import checkpoint_folder

    folder = checkpoint_folder(session.settings().model)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    with session.working() as (on_progress, cancel):
        report = evaluate_nano(
            folder,
            n=n,
            foreign=foreign,
            seed=EXAM_SEED if seed is None else seed,
            workers=workers or os.cpu_count() or 1,
            on_progress=on_progress,
            cancel=cancel,
        )
    say(session, [report.to_json() if session.as_json else report.to_text()])
    if out is not None:
        atomic.write_bytes(out, f"{report.to_json()}\n".encode())


@dataclass(frozen=True, slots=True)
class _Ran:
    """What a tool gave, the files written of it, and why they could not be."""

    output: ToolOutput
    files: Mapping[str, str]
    failure: Sa2vaError | None = None


def _run_tool(session: Session, name: str, raw: Mapping[str, Any], out: Path | None) -> _Ran:
    """Run the tool; where a folder is given, write its masks there. A result outlives a failure to write."""
    tool = tool_named(name)
    arguments = tool.parse({key: value for key, value in raw.items() if value is not None})
    with (
        output_folder(out),
        session.open_engine() as engine,
        session.working() as (on_progress, cancel),
    ):
        output = tool.run(engine, arguments, on_progress, cancel)
        result = output.structured
        if out is None or not isinstance(result, MasksResult | GroundResult):
            return _Ran(output, {})
        try:
            return _Ran(output, write_masks(engine, result, out, on_progress, cancel))
        except Sa2vaError as error:
            if cancel.cancelled:
                raise
            error.hint = f"{error.hint} The result itself is kept as {result.handle}.".strip()
            return _Ran(output, {}, error)


def _show_masks(
    session: Session, ran: _Ran, result: MasksResult | GroundResult, lines: list[str], out: Path | None
) -> None:
    failure = ran.failure
    if session.as_json:
        document = (ran.output.as_dict() or {}) | ({} if out is None else {"files": dict(ran.files)})
        if failure is not None:
            document["error"] = error_json(failure.code, failure.message, failure.hint)
        session.emit_json(document)
    else:
        has_masks = any(mask.found for mask in result.masks)
        say(session, [*lines, *_next_steps(session, result.handle, has_masks, ran.files, out)])
    if failure is not None:
        session.tell(failure)
        raise typer.Exit(EXIT_FAILED)


def _engine_within(session: Session, roots: tuple[Path, ...]) -> Engine:
    """An engine that reads under the roots only."""
    from sa2va_tools.engine.local import LocalEngine
    from sa2va_tools.media.source import AccessPolicy

    return LocalEngine.from_settings(settings=session.settings(), access=AccessPolicy(roots))


def _show(session: Session, output: ToolOutput, lines: Callable[[], list[str]]) -> None:
    if session.as_json:
        session.emit_json(output.as_dict())
    else:
        say(session, lines())


def _next_steps(
    session: Session, handle: str, has_masks: bool, files: Mapping[str, str], out: Path | None
) -> list[str]:
    if files:
        return file_lines(files) if has_masks else ["Nothing was found.", *file_lines(files)]
    if not has_masks:
        return ["Nothing was found, so there is nothing to view."]
    store = f" --store {session.store}" if session.store else ""
    steps = [f"To see it: sa2va view {handle}{store} --out view.png"]
    return steps if out else [*steps, "To save masks and an overlay: the same command with --out DIR"]


def _is_handle(text: str) -> bool:
    return text.startswith(("mask:", "answer:", "media:"))


def _picture_name(handle: str) -> str:
    return (handle.replace(":", "-") if _is_handle(handle) else f"{Path(handle).stem}-view") + ".png"


def _as(kind: type[Any], output: ToolOutput) -> Any:
    if not isinstance(output.structured, kind):
        raise TypeError(f"the tool gave {type(output.structured).__name__}, not {kind.__name__}")
    return output.structured
