"""`sa2va`: the tools on the command line. Parses, calls the tool, shows what it gave.

Results go to stdout; bars, warnings of libraries and errors go to stderr.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sa2va_server.cli_groups import eval_app, models_app, train_app
from sa2va_server.cli_session import Session, with_session
from sa2va_server.cli_usage import Commands
from sa2va_tools import __version__

app = typer.Typer(
    name="sa2va",
    cls=Commands,
    help="Point at things in images and video by words: ask, find, mask, track, look.",
    epilog="Start with: sa2va demo. Every command has --help.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")
app.add_typer(models_app, name="models")

Media = Annotated[
    str, typer.Argument(metavar="MEDIA", help="Image, video, folder of frames, or a media: handle.")
]
Question = Annotated[str | None, typer.Argument(metavar="[QUESTION]", help="Default: describe it.")]
Mode = Annotated[
    Literal["auto", "sa2va", "sa2va-i"],
    typer.Option("--mode", help="Video: sa2va looks at the first frames, sa2va-i at uniform ones."),
]
Start = Annotated[float | None, typer.Option("--start", min=0, metavar="S", help="Video: from this second.")]
End = Annotated[float | None, typer.Option("--end", min=0, metavar="S", help="Video: up to this second.")]
Stride = Annotated[int, typer.Option("--stride", min=1, help="Video: every n-th frame.")]
KeyFrames = Annotated[
    int | None,
    typer.Option("--key-frames", min=1, max=64, help="Video: frames that the language model sees."),
]
Frame = Annotated[int | None, typer.Option("--frame", min=0, metavar="N", help="Video: frame, from 0.")]
KeepDoubtful = Annotated[
    bool, typer.Option("--keep-doubtful", help="Keep masks whose object score says that nothing is there.")
]
Threshold = Annotated[
    float,
    typer.Option("--threshold", metavar="P", help="A pixel is set where its probability is over P, 0 to 1."),
]
Smooth = Annotated[
    bool, typer.Option("--smooth", help="Even out ragged edges, fill small holes, drop specks.")
]
After = Annotated[
    str | None,
    typer.Option("--after", metavar="HANDLE", help="An answer: handle: go on with that conversation."),
]
OutDir = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write masks.json, mask PNGs and an overlay into DIR."),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="X0,Y0,X1,Y1", help="A box in source pixels; repeat for more objects."),
]
Points = Annotated[
    list[str] | None, typer.Option("--point", metavar="X,Y", help="A point on the object; repeat for more.")
]
Masks = Annotated[list[str] | None, typer.Option("--mask", metavar="HANDLE", help="A mask: handle.")]
Polygons = Annotated[
    list[str] | None,
    typer.Option("--polygon", metavar="X,Y,X,Y,…", help="An outline of three or more corners."),
]
Fractions = Annotated[bool, typer.Option("--fraction", help="Coordinates are 0 to 1 of width and height.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sa2va-tools {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Point at things in images and video by words: ask, find, mask, track, look."""


@app.command()
@with_session
def segment(
    session: Session,
    media: Media,
    expressions: Annotated[
        list[str], typer.Argument(metavar="EXPRESSION...", help='What to find: "the red car" "the dog".')
    ],
    mode: Mode = "auto",
    start: Start = None,
    end: End = None,
    stride: Stride = 1,
    key_frames: KeyFrames = None,
    keep_doubtful: KeepDoubtful = False,
    threshold: Threshold = 0.5,
    smooth: Smooth = False,
    out: OutDir = None,
    after: After = None,
) -> None:
    """Find things by words: a mask per expression, tracked through every frame of a video."""
    from sa2va_server.cli_commands import masks_command

    raw = _range(start, end, stride) | {"mode": mode, "key_frames": key_frames}
    raw |= _finish(keep_doubtful, threshold, smooth)
    masks_command(
        session, "segment_by_text", {"media": media, "expressions": expressions, "after": after} | raw, out
    )


@app.command()
@with_session
def describe(
    session: Session,
    media: Media,
    question: Question = None,
    start: Start = None,
    end: End = None,
    stride: Stride = 1,
    key_frames: KeyFrames = None,
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", min=1, max=4096)] = None,
    after: After = None,
) -> None:
    """Describe an image or video, or answer a question about it, in words."""
    from sa2va_server.cli_commands import describe_command

    raw = _range(start, end, stride) | {"key_frames": key_frames, "max_new_tokens": max_new_tokens}
    raw |= {"after": after}
    describe_command(session, {"media": media, "question": question} | raw)


@app.command()
@with_session
def ground(
    session: Session,
    media: Media,
    question: Question = None,
    mode: Mode = "auto",
    start: Start = None,
    end: End = None,
    stride: Stride = 1,
    key_frames: KeyFrames = None,
    keep_doubtful: KeepDoubtful = False,
    threshold: Threshold = 0.5,
    smooth: Smooth = False,
    out: OutDir = None,
    after: After = None,
) -> None:
    """Describe it, with a mask for each phrase that names something."""
    from sa2va_server.cli_commands import ground_command

    raw = _range(start, end, stride) | {"mode": mode, "key_frames": key_frames}
    raw |= _finish(keep_doubtful, threshold, smooth)
    ground_command(session, {"media": media, "question": question, "after": after} | raw, out)


@app.command()
@with_session
def caption(
    session: Session,
    media: Media,
    question: Question = None,
    box: Boxes = None,
    point: Points = None,
    mask: Masks = None,
    polygon: Polygons = None,
    fraction: Fractions = False,
    frame: Frame = None,
) -> None:
    """Say what is at a place: a box, points, a polygon or a mask. MEDIA may be a mask: handle itself."""
    from sa2va_server.cli_commands import caption_command

    raw = _pointed(media, box, point, mask, polygon, fraction)
    caption_command(session, raw | {"question": question, "frame_index": frame})


@app.command()
@with_session
def track(
    session: Session,
    media: Media,
    box: Boxes = None,
    point: Points = None,
    mask: Masks = None,
    polygon: Polygons = None,
    fraction: Fractions = False,
    frame: Annotated[
        int | None, typer.Option("--frame", min=0, help="The frame that is pointed at; default: the first.")
    ] = None,
    start: Start = None,
    end: End = None,
    stride: Stride = 1,
    keep_doubtful: KeepDoubtful = False,
    threshold: Threshold = 0.5,
    smooth: Smooth = False,
    out: OutDir = None,
) -> None:
    """Follow what is pointed at in one frame through the video, both ways."""
    from sa2va_server.cli_commands import masks_command

    raw = _pointed(media, box, point, mask, polygon, fraction) | _range(start, end, stride)
    raw |= {"frame_index": frame} | _finish(keep_doubtful, threshold, smooth)
    masks_command(session, "track_region", raw, out)


@app.command()
@with_session
def view(
    session: Session,
    handles: Annotated[
        list[str],
        typer.Argument(metavar="HANDLE...", help="mask: or answer: handles, or one media: or path."),
    ],
    frame: Frame = None,
    max_frames: Annotated[int, typer.Option("--max-frames", min=1, max=100, help="Frames on the sheet.")] = 9,
    max_side: Annotated[
        int, typer.Option("--max-side", min=64, max=8192, help="Longest side, pixels.")
    ] = 1280,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A .png, .jpg or .webp file.")
    ] = None,
) -> None:
    """Draw masks, numbered and outlined, into one picture: a frame, or a sheet of frames."""
    from sa2va_server.cli_commands import view_command

    view_command(session, handles, frame, max_frames, max_side, out)


@app.command()
@with_session
def demo(
    session: Session,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write.")] = Path("sa2va-demo"),
) -> None:
    """Make a small clip, find and describe what is in it, write clip, overlay, masks and a picture."""
    from sa2va_server.demo import run_demo

    run_demo(session, out)


@app.command()
@with_session
def doctor(session: Session) -> None:
    """Check that everything that is needed is here and works."""
    from sa2va_server.doctor import run_doctor

    run_doctor(session)


@app.command()
@with_session
def mcp(
    session: Session,
    root: Annotated[
        list[Path] | None,
        typer.Option("--root", metavar="DIR", help="A folder that may be read; repeat for more."),
    ] = None,
) -> None:
    """Serve the tools to an MCP client over stdin and stdout."""
    from sa2va_server.cli_commands import mcp_command

    mcp_command(session, root or [])


@app.command()
@with_session
def pull(
    session: Session,
    checkpoint: Annotated[
        str, typer.Argument(metavar="ID[@REVISION]", help="A hub id, e.g. ByteDance/Sa2VA-4B.")
    ],
) -> None:
    """Download a checkpoint from the hub; called again, it goes on where it was."""
    from sa2va_server.cli_models import pull_command

    pull_command(session, checkpoint)


def _range(start: float | None, end: float | None, stride: int) -> dict[str, Any]:
    return {"start_s": start, "end_s": end, "stride": stride}


def _finish(keep_doubtful: bool, threshold: float, smooth: bool) -> dict[str, Any]:
    return {"gate_by_object_score": not keep_doubtful, "threshold": threshold, "smooth": smooth}


def _pointed(
    media: str,
    boxes: Sequence[str] | None,
    points: Sequence[str] | None,
    masks: Sequence[str] | None,
    polygons: Sequence[str] | None,
    as_fractions: bool,
) -> dict[str, Any]:
    """Media and regions; a mask: handle in the place of the media is both."""
    from sa2va_server.cli_regions import Pointing

    is_mask = media.startswith("mask:")
    named = [media, *(masks or [])] if is_mask else list(masks or [])
    pointing = Pointing(boxes or (), points or (), named, polygons or (), as_fractions)
    return {"media": None if is_mask else media, "regions": pointing.regions()}


def main() -> None:
    """The `sa2va` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character of a label shows another one.
            stream.reconfigure(errors="replace")
    app()


if __name__ == "__main__":
    main()
