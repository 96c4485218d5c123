"""The options of the command line: one `Annotated` type per argument, one dataclass per group of options.

A command with a parameter of one of these dataclasses gets all of its options (see `commands`). An option
without a name is called like its field. Groups that belong to a tool become a part of its arguments by
`tool_arguments()`.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, BadParameter, Option

from sa2va_tools.errors import RequestError

FileFormat = StrEnum("FileFormat", ["json", "png", "overlay", "npz", "coco", "polygons"])
"""What `--out` can write; the engine's export formats, which are not imported for `--help`."""

# ---- arguments and options of several commands --------------------------------------------------

_FILES = "Image, video, folder of frames"
Media = Annotated[str, Argument(metavar="MEDIA", help=f"{_FILES} or media handle (media:…).")]
RegionMedia = Annotated[
    str, Argument(metavar="MEDIA", help=f"{_FILES}, media handle (media:…) or mask handle (mask:…).")
]
Question = Annotated[str | None, Argument(metavar="[QUESTION]", help="Default: a description.")]
Frame = Annotated[
    int | None,
    Option(
        min=0, metavar="N", help="Frame number, from 0. Default: where a given mask is largest, or the first."
    ),
]
LlmFrames = Annotated[
    int | None, Option(min=1, max=64, help="Video: how many frames the language model sees.")
]
After = Annotated[
    str | None, Option(metavar="HANDLE", help="Continue the conversation of this answer handle (answer:…).")
]

_HINT = "Use --box x0,y0,x1,y1, --point x,y, --mask mask:…, or --polygon x,y,x,y,x,y, with numbers only."

RleInJson = Annotated[
    bool,
    Option("--rle-in-json", help="With --json: add the masks themselves, as COCO RLE per frame."),
]

# ---- groups -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RangeFlags:
    """The part of a video that is worked on."""

    start_s: Annotated[
        float | None, Option("--start", min=0, metavar="S", help="Video: start at this second.")
    ] = None
    end_s: Annotated[
        float | None, Option("--end", min=0, metavar="S", help="Video: stop at this second.")
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
        Option("--box", metavar="X0,Y0,X1,Y1", help="A box in source pixels; repeat for more objects."),
    ] = None
    points: Annotated[
        list[str] | None,
        Option("--point", metavar="X,Y", help="A point on the object; repeat for more points."),
    ] = None
    masks: Annotated[
        list[str] | None, Option("--mask", metavar="HANDLE", help="A mask handle (mask:…); repeat for more.")
    ] = None
    polygons: Annotated[
        list[str] | None,
        Option("--polygon", metavar="X,Y,X,Y,…", help="Outline of three or more corners; repeat for more."),
    ] = None
    as_fractions: Annotated[
        bool, Option("--fraction", help="Coordinates are fractions (0 to 1) of width and height.")
    ] = False

    def tool_arguments(self, media: str) -> dict[str, Any]:
        """`media` and `regions`. A mask handle in the place of the media is a region, too. RequestError if
        no region was given, or not with numbers."""
        masks = list(self.masks or ())
        unit = "fraction" if self.as_fractions else "pixel"
        if media.startswith("mask:"):
            masks.insert(0, media)
        regions: list[dict[str, Any]] = [{"mask": handle} for handle in masks]
        for text in self.boxes or ():
            regions.append({"box_xyxy": _parse_numbers("--box", text, 4), "unit": unit})
        if self.points:
            points_xy = [_parse_numbers("--point", text, 2) for text in self.points]
            regions.append({"points_xy": points_xy, "unit": unit})
        for text in self.polygons or ():
            regions.append({"polygon_xy": _parse_corners(text), "unit": unit})
        if not regions:
            raise RequestError("No region was given.", hint=_HINT)
        return {"media": None if media.startswith("mask:") else media, "regions": regions}


def _parse_corners(text: str) -> list[tuple[float, float]]:
    numbers = _parse_numbers("--polygon", text)
    if len(numbers) < 6 or len(numbers) % 2:
        raise RequestError(
            f"--polygon needs at least three corners of two numbers each; it has {len(numbers)} numbers.",
            hint=_HINT,
        )
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _parse_numbers(option: str, text: str, count: int | None = None) -> list[float]:
    try:
        numbers = [float(part) for part in text.replace(";", ",").replace(" ", ",").split(",") if part]
    except ValueError as error:
        raise RequestError(
            f"{option} {text!r} contains something that is not a number.", hint=_HINT
        ) from error
    if count is not None and len(numbers) != count:
        raise RequestError(f"{option} needs {count} numbers, but {text!r} has {len(numbers)}.", hint=_HINT)
    return numbers


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """The files that are written."""

    out: Annotated[Path | None, Option(metavar="DIR", help="Write masks.json and other files into DIR.")] = (
        None
    )
    formats: Annotated[
        list[FileFormat] | None,
        Option(
            "--format",
            help="With --out: files to write besides masks.json; repeat for more. Default: png, overlay.",
        ),
    ] = None
    rle_in_json: RleInJson = False


@dataclass(frozen=True, kw_only=True)
class ViewFlags:
    """What a picture of masks shows."""

    frame: Annotated[
        int | None, Option(min=0, metavar="N", help="Show only this frame (from 0), not a sheet.")
    ] = None
    max_frames: Annotated[int, Option(min=1, max=100, help="Frames on the sheet.")] = 9
    max_side: Annotated[int, Option(min=64, max=8192, help="Longest side in pixels.")] = 1280
    out: Annotated[Path | None, Option(metavar="FILE", help="A .png, .jpg or .webp file.")] = None


@dataclass(frozen=True, kw_only=True)
class WorkloadFlags:
    """What memory is estimated for."""

    objects: Annotated[int, Option(min=1, help="Estimate memory for this many objects at once.")] = 1
    is_image: Annotated[bool, Option("--image", help="Estimate memory for an image instead of a video.")] = (
        False
    )
    llm_frames: LlmFrames = None


def _check_device(device: str | None) -> str | None:
    from sa2va_tools.settings import DEVICE_PATTERN

    if device is not None and not re.match(DEVICE_PATTERN, device):
        raise BadParameter(f"{device!r} is not one of auto, cpu, mps, cuda, cuda:1, cuda:0,cuda:1.")
    return device


_CommonOption = partial(Option, rich_help_panel="Common options")


@dataclass(frozen=True, kw_only=True)
class CommonFlags:
    """The options of every command. Those that are settings have the names of `Settings`."""

    model: Annotated[
        str | None,
        _CommonOption(metavar="nano|ID|DIR", help="Checkpoint: nano, a hub id that was pulled, or a folder."),
    ] = None
    device: Annotated[
        str | None,
        _CommonOption(
            callback=_check_device,
            metavar="auto|cpu|mps|cuda|cuda:N",
            help="Where the model runs. cuda:1 is the second GPU; cuda:0,cuda:1 splits the language model "
            "over two.",
        ),
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None,
        _CommonOption(help="Number format of the model."),
    ] = None
    quantize: Annotated[
        Literal["int8", "nf4"] | None, _CommonOption(help="Load the language model's layers in 8 or 4 bits.")
    ] = None
    sam2_decoder: Annotated[
        str | None,
        _CommonOption(
            metavar="ID|FILE",
            help="Stock SAM-2 weights, for mode sa2va-i with a checkpoint that has one mask decoder.",
        ),
    ] = None
    store_dir: Annotated[
        Path | None, _CommonOption("--store", metavar="DIR", help="Folder for stored results.")
    ] = None
    as_json: Annotated[bool, _CommonOption("--json", help="Print one JSON document.")] = False
    quiet: Annotated[bool, _CommonOption("--quiet", "-q", help="Show no progress bars.")] = False
    debug: Annotated[bool, _CommonOption("--debug", help="Show the traceback of an error.")] = False
