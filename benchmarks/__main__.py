"""`make bench`: everything for one size, on whatever device there is; tables, and a section of RESULTS.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, propagation, report
from benchmarks.approximations import approximations
from benchmarks.attention import attention_speed
from benchmarks.encoder import encoder_speed
from benchmarks.figure import draw
from benchmarks.long_video import long_video
from benchmarks.measuring import as_the_engine, run_alone
from benchmarks.models import Size, grounding_of
from benchmarks.rounding import logit_error
from benchmarks.scaling import QUICK, Extent, scaling
from sa2va_tools.errors import RequestError
from sa2va_tools.model.device import (
    choose_attention_dtype,
    choose_device,
    choose_encoder_dtype,
    choose_pace,
)

_FULL = {"nano": ((24,), (60, 240)), "hiera-l": ((12, 32), (12, 32))}
_SHORT = {"nano": ((6,), (6,)), "hiera-l": ((2,), (2,))}
"""Frames of the clips that both ways go through, and of those that memory is compared at."""


Steps = dict[str, Callable[[], Any]]


def steps_of(size: Size, device: torch.device, *, quick: bool, frames: Sequence[int] = ()) -> Steps:
    """What there is to measure of a size, in order; `frames` of the clips that both ways go through, where
    they are not to be the usual ones."""
    small, cuda = size == "nano", device.type == "cuda"
    quickly = small or cuda  # else a frame takes many seconds
    batch = choose_pace(device, small=small).batch
    usual, memory_frames = (_SHORT if quick else _FULL)[size]
    compared_frames = frames or (usual if quickly else usual[:1])
    half = torch.bfloat16 if cuda else torch.float32

    def compared() -> dict[str, Any]:
        kept = memory_frames if quickly else memory_frames[:1]
        return propagation.measure(size, device, "float32", frames=compared_frames, memory_frames=kept)

    def encoded() -> list[dict[str, Any]]:
        repeats = 7 if quickly and not quick else 3
        chosen = choose_encoder_dtype("auto", half, "auto", device, small=small)
        made = [
            encoder_speed(grounding_of(size, device, dtype), batch=batch, repeats=repeats)
            for dtype in dict.fromkeys((torch.float32, half, chosen))
        ]
        if not quick:
            try:
                grounding = grounding_of(size, device, chosen)
                made.append(encoder_speed(grounding, batch=batch, repeats=repeats, compiled=True))
            except RequestError as error:
                print(error, file=sys.stderr)
        return made

    def attended() -> list[dict[str, Any]]:
        chosen = choose_attention_dtype("auto", half, "auto", device, small=small)
        grounding = grounding_of(size, device, half)
        return [attention_speed(grounding, products=dtype) for dtype in dict.fromkeys((half, chosen))]

    steps: Steps = {
        "propagation": compared,
        "encoder": encoded,
        "attention": attended,
    }
    if small:
        steps["approximations"] = lambda: approximations(str(device), clips=4 if quick else 16)
        steps["scaling"] = lambda: scaling(QUICK if quick else Extent(), str(device))
        steps["long_video"] = lambda: long_video(0.1 if quick else 10.0, str(device))
        return steps
    steps["rounding"] = lambda: logit_error(grounding_of(size, device, torch.float32))
    if not quick:
        steps["questions"] = lambda: run_alone("benchmarks.questions", f"--device={device}")
        steps["expressions"] = lambda: [
            run_alone("benchmarks.expressions", f"--device={device}", f"--frames={count}")
            for count in compared_frames
        ]
    return steps


def bench(
    size: Size,
    device: torch.device,
    *,
    quick: bool,
    only: Sequence[str] = (),
    frames: Sequence[int] = (),
    after_step: Callable[[dict[str, Any]], None] = lambda made: None,
) -> dict[str, Any]:
    """Step after step, each announced on stderr; `only` some of them. `after_step` is given what there is, so
    that a long run may be broken off; `frames` as in `steps_of`."""
    made: dict[str, Any] = {
        "title": f"{size}, {machine.device_name(device)}",
        "size": size,
        "quick": quick,
        "machine": machine.about(device, torch.get_num_threads()),
    }
    for name, step in steps_of(size, device, quick=quick, frames=frames).items():
        if not only or name in only:
            print(f"… {name}", file=sys.stderr, flush=True)
            made[name] = step()
            after_step(made)
    return made


def publish(made: dict[str, Any], page: Path) -> None:
    """The run's section into the page, and its curves beside it."""
    picture: Path | None = None
    if "scaling" in made:
        kind = "" if made["machine"].get("device") is None else "-cuda"
        picture = page.with_name(f"scaling{kind}.png")
        draw(made["scaling"], picture)
    report.write_section(page, report.section(made, picture=picture.name if picture else None))


def main() -> None:
    """`python -m benchmarks --size nano --results benchmarks/RESULTS.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("nano", "hiera-l"), default="nano")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--quick", action="store_true", help="small numbers of everything: minutes at most")
    parser.add_argument("--steps", nargs="+", default=(), help="only these: propagation, encoder, …")
    parser.add_argument("--frames", type=int, nargs="+", default=(), help="of the clips that are compared")
    parser.add_argument("--results", type=Path, help="the page to put the section into")
    parser.add_argument("--json", type=Path, help="the raw figures, too")
    wish = parser.parse_args()
    device = choose_device(wish.device)

    def keep(made: dict[str, Any]) -> None:
        if wish.results is not None:
            publish(made, wish.results)
        if wish.json is not None:
            wish.json.parent.mkdir(parents=True, exist_ok=True)
            wish.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")

    with as_the_engine(device, small=wish.size == "nano"):
        made = bench(
            wish.size, device, quick=wish.quick, only=wish.steps, frames=wish.frames, after_step=keep
        )
    print(report.section(made))


if __name__ == "__main__":
    main()
