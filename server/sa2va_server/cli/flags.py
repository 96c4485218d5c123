"""The options of the command line: one `Annotated` type per argument, one dataclass per group of options.

A command with a parameter of one of these dataclasses gets all of its options (see `commands`). An option
without a name is called like its field. Groups that belong to a tool become a part of its arguments by
`tool_arguments()`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, BadParameter, Option

from sa2va_server.cli.coordinates import no_region_error, read_box, read_corners, read_points
from sa2va_server.cli.rle_files import read_rles
from sa2va_server.cli.values import read_path, read_seconds
from sa2va_server.cli.vocabulary import HOW_TO_POINT
from sa2va_tools.errors import RequestError

FileFormat = StrEnum("FileFormat", ["json", "png", "overlay", "npz", "coco", "polygons"])
"""What `--out` can write; the engine's export formats, which are not imported for `--help`."""


_LONGEST_RATE = 40


def _parse_rate(text: str) -> Fraction:
    try:
        # An exponent can stand for a number that fills the memory.
        return Fraction(text if len(text) <= _LONGEST_RATE and "e" not in text.lower() else "")
    except (ValueError, ZeroDivisionError) as error:
        raise BadParameter(
            f"{text!r} is not a frame rate; write a number such as 25 or 30000/1001."
        ) from error


# ---- arguments and options of several commands --------------------------------------------------

MEDIA_HELP = 'Images, videos, folders of frames, media handles (media:…) or patterns ("pic*.png").'
MediaAndQuestion = Annotated[
    list[str],
    Argument(metavar="MEDIA... [QUESTION]", help=f"{MEDIA_HELP} Then a question; default: a description."),
]
Each = Annotated[
    bool, Option("--each", help="A folder is not a video: take each image and video in it separately.")
]
Frame = Annotated[
    int | None,
    Option(
        min=0, metavar="N", help="Frame number, from 0. Default: where a given mask is largest, or the first."
    ),
]
Time = Annotated[
    float | None,
    Option("--time", parser=read_seconds, metavar="S", help="Instead of --frame: 65.5 or 00:01:05.5."),
]
LlmFrames = Annotated[
    int | None, Option(min=1, max=64, help="Video: how many frames the language model sees.")
]
After = Annotated[
    str | None, Option(metavar="HANDLE", help="Continue the conversation of this answer handle (answer:…).")
]

Formats = Annotated[
    list[FileFormat] | None,
    Option(
        "--format",
        help="With --out: files to write besides masks.json; repeat for more. Default: png, overlay.",
    ),
]
RleInJson = Annotated[
    bool,
    Option("--rle-in-json", help="With --json: add the masks themselves, as COCO RLE per frame."),
]

# ---- groups -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ReadingFlags:
    """How the image or video is read, where it does not tell itself."""

    video_stream: Annotated[
        int | None,
        Option(
            min=0,
            metavar="N",
            help="Which video stream of a file with several, numbered from 0 as FFmpeg's v:N. Default: the "
            "one that players show.",
        ),
    ] = None
    fps: Annotated[
        Fraction | None,
        Option(
            parser=_parse_rate,
            metavar="RATE",
            help="Frames per second of a folder of frames, or of a video that has no frame rate, such as "
            "25 or 30000/1001.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RangeFlags:
    """The part of a video that is worked on."""

    start_s: Annotated[
        float | None,
        Option("--start", parser=read_seconds, metavar="S", help="Video: start at 65.5 or 00:01:05.5."),
    ] = None
    end_s: Annotated[
        float | None, Option("--end", parser=read_seconds, metavar="S", help="Video: stop at this time.")
    ] = None
    stride: Annotated[int, Option(min=1, help="Video: take every n-th frame.")] = 1

    def tool_arguments(self) -> dict[str, Any]:
        """By the names that the tools use."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class MaskFlags(RangeFlags):
    """Which masks are returned, and how their edges are drawn."""

    keep_doubtful: Annotated[
        bool, Option("--keep-doubtful", help="Keep masks even where the object score is low.")
    ] = False
    threshold: Annotated[
        float, Option(metavar="P", help="Probability (0 to 1) above which a pixel belongs to the mask.")
    ] = 0.5
    smooth: Annotated[
        bool, Option("--smooth", help="Smooth ragged edges, fill small holes, remove specks.")
    ] = False

    def tool_arguments(self) -> dict[str, Any]:
        values = super().tool_arguments()
        return values | {"gate_by_object_score": not values.pop("keep_doubtful")}


@dataclass(frozen=True, kw_only=True)
class WordFlags(MaskFlags):
    """How masks are made from words."""

    mode: Annotated[
        Literal["auto", "sa2va", "sa2va-i"],
        Option(
            help="Video: the model sees the first frames (sa2va) or evenly spread ones (sa2va-i). auto: "
            "sa2va-i for checkpoints with two mask decoders, otherwise sa2va."
        ),
    ] = "auto"
    llm_frames: LlmFrames = None
    after: After = None


@dataclass(frozen=True, kw_only=True)
class DescribeFlags(RangeFlags):
    """How a question is answered in words."""

    llm_frames: LlmFrames = None
    max_new_tokens: Annotated[
        int | None, Option(min=1, max=4096, help="Limit on the length of the answer.")
    ] = None
    after: After = None


@dataclass(frozen=True, kw_only=True)
class RegionFlags:
    """What is pointed at. Each box, polygon and mask is one object; all points together are one."""

    boxes: Annotated[
        list[str] | None,
        Option(
            "--box",
            metavar="X0,Y0,X1,Y1",
            help='A box in source pixels, also as printed: "[33, 34, 128, 128]"; repeat for more objects.',
        ),
    ] = None
    points: Annotated[
        list[str] | None,
        Option("--point", metavar="X,Y", help="A point on the object; repeat for more points."),
    ] = None
    negative_points: Annotated[
        list[str] | None,
        Option("--negative-point", metavar="X,Y", help="A point beside the object; repeat for more."),
    ] = None
    masks: Annotated[
        list[str] | None, Option("--mask", metavar="HANDLE", help="A mask handle (mask:…); repeat for more.")
    ] = None
    polygons: Annotated[
        list[str] | None,
        Option("--polygon", metavar="X,Y,X,Y,…", help="Outline of three or more corners; repeat for more."),
    ] = None
    rles: Annotated[
        list[str] | None,
        Option(
            "--rle",
            metavar="FILE|JSON|-",
            help="Masks as COCO RLE (compressed or not): a JSON file, JSON, or - for standard input.",
        ),
    ] = None
    as_fractions: Annotated[
        bool, Option("--fraction", help="Coordinates are fractions (0 to 1) of width and height.")
    ] = False

    def tool_arguments(self, media: str) -> dict[str, Any]:
        """`media` and `regions`. A mask handle in the place of the media is a region, too. RequestError if
        no region was given, or not with numbers."""
        masks = list(self.masks or ())
        unit = {"unit": "fraction" if self.as_fractions else "pixel"}
        if media.startswith("mask:"):
            masks.insert(0, media)
        if not all(handle.strip() for handle in masks):
            raise RequestError("--mask is empty.", hint=HOW_TO_POINT)
        regions: list[dict[str, Any]] = [{"mask": handle} for handle in masks]
        regions += [{"box_xyxy": read_box(text), **unit} for text in self.boxes or ()]
        regions += [points | unit for points in self._point_regions()]
        regions += [{"polygon_xy": read_corners(text), **unit} for text in self.polygons or ()]
        regions += [{"rle": rle} for rle in self._rles]
        if not regions:
            raise no_region_error()
        return {"media": None if media.startswith("mask:") else media, "regions": regions}

    def _point_regions(self) -> list[dict[str, Any]]:
        """All points together, as one region or none."""
        inside = [point for text in self.points or () for point in read_points("--point", text)]
        outside = [
            point for text in self.negative_points or () for point in read_points("--negative-point", text)
        ]
        if outside and not inside:
            raise RequestError(
                "--negative-point needs a --point on the object itself.", hint="Add --point x,y."
            )
        return [{"points_xy": inside, "negative_points_xy": outside}] if inside else []

    @cached_property
    def _rles(self) -> list[dict[str, Any]]:
        # Standard input can be read only once, however many pictures there are.
        return [rle for text in self.rles or () for rle in read_rles(text)]


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """The files that are written."""

    out: Annotated[
        Path | None,
        Option(
            parser=read_path,
            metavar="DIR",
            help="Write masks.json and other files into DIR; of several sources, each into its own folder.",
        ),
    ] = None
    formats: Formats = None
    rle_in_json: RleInJson = False


@dataclass(frozen=True, kw_only=True)
class ViewFlags:
    """What a picture of masks shows."""

    frame: Annotated[
        int | None, Option(min=0, metavar="N", help="Show only this frame (from 0), not a sheet.")
    ] = None
    time: Time = None
    crop: Annotated[bool, Option("--crop", help="Show only the masks and their surroundings, enlarged.")] = (
        False
    )
    max_frames: Annotated[int, Option(min=1, max=100, help="Frames on the sheet.")] = 9
    max_side: Annotated[int, Option(min=64, max=8192, help="Longest side in pixels.")] = 1280
    out: Annotated[
        Path | None, Option(parser=read_path, metavar="FILE", help="A .png, .jpg or .webp file.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class WorkloadFlags:
    """What memory is estimated for."""

    objects: Annotated[int, Option(min=1, help="Estimate memory for this many objects at once.")] = 1
    is_image: Annotated[bool, Option("--image", help="Estimate memory for an image instead of a video.")] = (
        False
    )
    llm_frames: LlmFrames = None


@dataclass(frozen=True, kw_only=True)
class WireFlags:
    """What clients of the MCP server differ in; the fields of `mcp.wire.WireOptions`."""

    strict_schemas: Annotated[
        bool,
        Option(
            "--strict-schemas",
            help="List the tools with schemas that OpenAI's strict mode takes as they are: every argument is "
            "required, and null stands for one that is not given.",
        ),
    ] = False
    resource_links: Annotated[
        bool,
        Option(
            "--resource-links",
            help="Add a link to the RLE of each mask, for clients that read resources. Many others fail on "
            "such links.",
        ),
    ] = False
    picture_first: Annotated[
        bool,
        Option(
            "--picture-first",
            help="Put the picture of view before its legend, for clients that read only the first part of "
            "a result.",
        ),
    ] = False
