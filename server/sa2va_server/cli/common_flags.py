"""The options of every command: the checkpoint and how it runs, the store, and how results are printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from typer import BadParameter, Option

from sa2va_server.cli.values import read_name, read_path


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
        _CommonOption(
            parser=read_name,
            metavar="nano|ID|DIR",
            help="Checkpoint: nano, a hub id that was pulled, or a folder.",
        ),
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
            parser=read_name,
            metavar="ID|FILE",
            help="Stock SAM-2 weights, for mode sa2va-i with a checkpoint that has one mask decoder.",
        ),
    ] = None
    store_dir: Annotated[
        Path | None,
        _CommonOption("--store", parser=read_path, metavar="DIR", help="Folder for stored results."),
    ] = None
    reuse_results: Annotated[
        bool | None,
        _CommonOption(
            " /--recompute",
            help="Compute the result even if the same call is answered in the store.",
            show_default=False,
        ),
    ] = None
    as_json: Annotated[bool, _CommonOption("--json", help="Print one JSON document.")] = False
    quiet: Annotated[bool, _CommonOption("--quiet", "-q", help="Show no progress bars.")] = False
    debug: Annotated[bool, _CommonOption("--debug", help="Show the traceback of an error.")] = False
