"""`make bench`: everything for one size, on whatever device there is; tables, and a section of RESULTS.md."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, propagation, report
from benchmarks.approximations import approximations
from benchmarks.attention import attention_speed
from benchmarks.encoder import encoder_speed
from benchmarks.figure import draw
from benchmarks.long_video import long_video
from benchmarks.measuring import run_alone
from benchmarks.models import Size, grounding_of
from benchmarks.rounding import logit_error
from benchmarks.scaling import QUICK, Extent, scaling
from sa2va_tools.model.device import choose_device, choose_pace, choose_threads, cpu_threads

_FULL, _SHORT = {"nano": (24, (60, 240)), "hiera-l": (12, (12,))}, {"nano": (6, (6,)), "hiera-l": (2, (2,))}
"""Frames of a comparison, and those that memory is compared at."""


def bench(size: Size, device: torch.device, *, quick: bool) -> dict[str, Any]:
    """What there is to measure of a size, step after step; each is announced on stderr."""
    small, cuda = size == "nano", device.type == "cuda"
    threads = torch.get_num_threads()
    made: dict[str, Any] = {
        "title": f"{size}, {machine.device_name(device)}",
        "size": size,
        "quick": quick,
        "machine": machine.about(device, threads),
    }
    frames, memory_frames = (_SHORT if quick else _FULL)[size]
    if not (small or cuda):
        memory_frames = ()  # a frame takes many seconds
    _say("propagation beside the published procedure")
    made["propagation"] = propagation.measure(
        size, device, "float32", frames=frames, memory_frames=memory_frames
    )
    _say("the image encoder")
    batch = choose_pace(device, small=small).batch
    made["encoder"] = [
        encoder_speed(
            grounding_of(size, device, dtype), batch=batch, repeats=3 if quick else 7 if small or cuda else 1
        )
        for dtype in ((torch.float32, torch.bfloat16) if cuda else (torch.float32,))
    ]
    _say("memory attention")
    dtype = torch.bfloat16 if cuda else torch.float32
    made["attention"] = attention_speed(grounding_of(size, device, dtype))
    if small:
        _say("what approximations cost")
        made["approximations"] = approximations(str(device), clips=4 if quick else 60)
        _say("scaling curves")
        made["scaling"] = scaling(QUICK if quick else Extent(), str(device))
        _say("a long video")
        made["long_video"] = long_video(0.1 if quick else 10.0, str(device))
    else:
        _say("rounding")
        made["rounding"] = logit_error(grounding_of(size, device, torch.float32))
    if not small and not quick:
        _say("first tokens of answers")
        made["questions"] = run_alone("benchmarks.questions", f"--device={device}")
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
    parser.add_argument("--results", type=Path, help="the page to put the section into")
    parser.add_argument("--json", type=Path, help="the raw figures, too")
    wish = parser.parse_args()
    device = choose_device(wish.device)
    with cpu_threads(choose_threads(None, device, small=wish.size == "nano")):  # as the engine does
        made = bench(wish.size, device, quick=wish.quick)
    print(report.section(made))
    if wish.results is not None:
        publish(made, wish.results)
    if wish.json is not None:
        wish.json.parent.mkdir(parents=True, exist_ok=True)
        wish.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def _say(step: str) -> None:
    print(f"… {step}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
