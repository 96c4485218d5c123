"""The `sa2va` command. Each function declares what a command accepts and passes it on.

Results go to stdout; progress, warnings of libraries and errors go to stderr. The code behind a command is
imported when the command runs, so that `sa2va --help` stays quick.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option, Typer, echo

from sa2va_server.cli import flags
from sa2va_server.cli.commands import Commands, with_session
from sa2va_server.cli.doctor import doctor
from sa2va_server.cli.flags import MEDIA_HELP, Each, Frame, MediaAndQuestion, Time
from sa2va_server.cli.models import models_app, pull
from sa2va_server.cli.nano import eval_app, train_app
from sa2va_server.cli.output import guard_output
from sa2va_server.cli.results import add_commands
from sa2va_server.cli.session import Session
from sa2va_server.cli.sources import (
    Words,
    require_expressions,
    require_no_text,
    require_one_question,
    split_words,
)
from sa2va_server.cli.stopping import end_at_once
from sa2va_server.cli.values import read_path
from sa2va_tools import __version__
from sa2va_tools.errors import Sa2vaError

app = Typer(
    name="sa2va",
    cls=Commands,
    help="Find, mask, track and describe things in images and videos by words.",
    epilog="Start with: sa2va demo. Every command has --help. Exit codes: 0 done, 1 failed, 2 wrong "
    "arguments, 130 stopped, 141 output no longer read; of several files, the highest.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")
app.add_typer(models_app, name="models")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        echo(f"sa2va-tools {__version__}")
        raise Exit


@app.callback()
def _main(
    version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find, mask, track and describe things in images and videos by words."""


@app.command()
@with_session
def segment(
    session: Session,
    words: Annotated[
        list[str],
        Argument(
            metavar="MEDIA... EXPRESSION...",
            help=f'{MEDIA_HELP} Then what to find: "the red car" "the dog".',
        ),
    ],
    *,
    each: Each = False,
    options: flags.WordFlags,
    reading: flags.ReadingFlags,
    output: flags.OutputFlags,
) -> None:
    """Find things by words: a mask for each expression, tracked through every frame of a video."""
    given = split_words(words, each=each)
    common = {"expressions": list(require_expressions(given)), **options.tool_arguments()}
    _run_tool(session, "segment_by_text", given, lambda media: {"media": media, **common}, reading, output)


@app.command()
@with_session
def describe(
    session: Session,
    words: MediaAndQuestion,
    *,
    each: Each = False,
    options: flags.DescribeFlags,
    reading: flags.ReadingFlags,
) -> None:
    """Describe an image or video, or answer a question about it."""
    given = split_words(words, each=each)
    common = {"question": require_one_question(given), **options.tool_arguments()}
    _run_tool(session, "describe", given, lambda media: {"media": media, **common}, reading)


@app.command()
@with_session
def ground(
    session: Session,
    words: MediaAndQuestion,
    *,
    each: Each = False,
    options: flags.WordFlags,
    reading: flags.ReadingFlags,
    output: flags.OutputFlags,
) -> None:
    """Describe an image or video, with a mask for each thing that the description names."""
    given = split_words(words, each=each)
    common = {"question": require_one_question(given), **options.tool_arguments()}
    _run_tool(
        session, "ground_conversation", given, lambda media: {"media": media, **common}, reading, output
    )


@app.command()
@with_session
def caption(
    session: Session,
    words: MediaAndQuestion,
    *,
    each: Each = False,
    regions: flags.RegionFlags,
    frame: Frame = None,
    time: Time = None,
    reading: flags.ReadingFlags,
    rle_in_json: flags.RleInJson = False,
) -> None:
    """Describe a region: a box, points, a polygon, an RLE or a mask (mask:…, also in place of the media)."""
    given = split_words(words, each=each)
    common = {"question": require_one_question(given), "frame_index": frame, "time_s": time}
    output = flags.OutputFlags(rle_in_json=rle_in_json)

    def make_arguments(media: str) -> dict[str, Any]:
        return {**regions.tool_arguments(media), **common}

    _run_tool(session, "caption_region", given, make_arguments, reading, output)


@app.command()
@with_session
def track(
    session: Session,
    words: Annotated[list[str], Argument(metavar="MEDIA", help=f"{MEDIA_HELP} Or a mask handle (mask:…).")],
    *,
    each: Each = False,
    regions: flags.RegionFlags,
    frame: Frame = None,
    time: Time = None,
    options: flags.MaskFlags,
    reading: flags.ReadingFlags,
    output: flags.OutputFlags,
) -> None:
    """Track a region given on one frame through the video, forwards and backwards."""
    given = split_words(words, each=each)
    require_no_text(given)
    common = {"frame_index": frame, "time_s": time, **options.tool_arguments()}

    def make_arguments(media: str) -> dict[str, Any]:
        return {**regions.tool_arguments(media), **common}

    _run_tool(session, "track_region", given, make_arguments, reading, output)


def _run_tool(
    session: Session,
    name: str,
    given: Words,
    make_arguments: Callable[[str], dict[str, Any]],
    reading: flags.ReadingFlags,
    output: flags.OutputFlags | None = None,
) -> None:
    output = output or flags.OutputFlags()
    if len(given.media) == 1 and not given.is_list:
        from sa2va_server.cli.tool_command import run_tool

        run_tool(session, name, make_arguments(given.media[0]), reading, output)
        return
    from sa2va_server.cli.several import run_on_each

    run_on_each(session, name, given.media, make_arguments, reading, output)


@app.command()
@with_session
def view(
    session: Session,
    handles: Annotated[
        list[str],
        Argument(metavar="HANDLE", help="Mask or answer handles, or one media handle or path."),
    ],
    options: flags.ViewFlags,
    reading: flags.ReadingFlags,
) -> None:
    """Draw masks, numbered and outlined, as one picture: a frame, or a sheet of frames."""
    from sa2va_server.cli.view import view_command

    view_command(session, handles, options, reading)


@app.command()
@with_session
def demo(
    session: Session,
    out: Annotated[Path, Option(parser=read_path, metavar="DIR", help="Where to write.")] = Path(
        "sa2va-demo"
    ),
) -> None:
    """Make a small clip, find and describe what is in it, and write clip, overlay, masks and a picture."""
    from sa2va_server.cli.demo import run_demo

    run_demo(session, out)


add_commands(app)
app.command()(doctor)


@app.command()
@with_session
def mcp(
    session: Session,
    *,
    root: Annotated[
        list[Path] | None,
        Option(
            parser=read_path,
            metavar="DIR",
            help="A folder that agents may read; repeat for more. Without it, SA2VA_ROOTS applies (folders "
            "separated as in PATH); if neither is set, nothing can be read.",
        ),
    ] = None,
    wire: flags.WireFlags,
) -> None:
    """Serve the tools to an MCP client over standard input and output."""
    from sa2va_tools.imports import pause_garbage_collection

    with pause_garbage_collection():  # clients give a server a few seconds to start
        from sa2va_server.mcp.server import HOW_TO_OPEN, serve_stdio
        from sa2va_server.mcp.wire import WireOptions
        from sa2va_tools.engine.access import open_agent_engine, resolve_roots

        gc.freeze()  # what was imported stays, so no collection need look at it

    if sys.stdin is None:
        raise Sa2vaError("Standard input is closed, so there is no client to serve.")
    settings = session.settings()
    roots = resolve_roots(root, "--root") if root else resolve_roots(settings.roots, "SA2VA_ROOTS")
    with end_at_once(), contextlib.redirect_stdout(session.out):  # the protocol needs the real one
        serve_stdio(
            lambda: open_agent_engine(roots, how_to_open=HOW_TO_OPEN, settings=settings),
            roots=roots,
            wire=WireOptions(**asdict(wire)),
        )


app.command()(pull)


def main() -> None:
    """The `sa2va` command."""
    with guard_output():
        app()
