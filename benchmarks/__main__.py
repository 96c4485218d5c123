"""`make bench`: measures everything of one size, prints tables, and writes a section of RESULTS.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.figure import draw_scaling
from benchmarks.machine import describe_machine, device_name
from benchmarks.measuring import engine_conditions
from benchmarks.report import update_page, write_report
from benchmarks.steps import Plan
from sa2va_tools.model.device.placement import choose_device


def run_plan(
    plan: Plan, *, only: Sequence[str] = (), after_step: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Run the steps one after another, or `only` some of them, each announced on stderr. `after_step` gets
    the results so far, so that a long run may be interrupted."""
    results: dict[str, Any] = {
        "title": f"{plan.size}, {device_name(plan.device)}",
        "size": plan.size,
        "quick": plan.quick,
        "machine": describe_machine(plan.device, torch.get_num_threads()),
    }
    for name, step in plan.steps().items():
        if not only or name in only:
            print(f"… {name}", file=sys.stderr, flush=True)
            results[name] = step()
            after_step(results)
    return results


def publish(results: dict[str, Any], page: Path) -> None:
    """Write the run's section into the page, and the picture of its curves next to it."""
    picture: Path | None = None
    if "scaling" in results:
        kind = "-cuda" if "device" in results["machine"] else ""
        picture = page.with_name(f"scaling{kind}.png")
        draw_scaling(results["scaling"], picture)
    update_page(page, write_report(results, picture=picture.name if picture else None))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("nano", "hiera-l"), default="nano")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--quick", action="store_true", help="small numbers of everything: minutes at most")
    parser.add_argument("--steps", nargs="+", default=(), help="only these: propagation, encoder, …")
    parser.add_argument("--frames", type=int, nargs="+", default=(), help="of the clips that go both ways")
    parser.add_argument("--results", type=Path, help="the page to put the section into")
    parser.add_argument("--json", type=Path, help="the file to write all figures to")
    return parser.parse_args()


def main() -> None:
    """`python -m benchmarks --size nano --results benchmarks/RESULTS.md`."""
    arguments = parse_arguments()

    def save(results: dict[str, Any]) -> None:
        if arguments.results is not None:
            publish(results, arguments.results)
        if arguments.json is not None:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    plan = Plan(arguments.size, choose_device(arguments.device), arguments.quick, arguments.frames)
    with engine_conditions(plan.device, small=plan.small):
        results = run_plan(plan, only=arguments.steps, after_step=save)
    print(write_report(results))


if __name__ == "__main__":
    main()
